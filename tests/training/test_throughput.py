from __future__ import annotations

from fivebyfive.engines.interface import Times
from fivebyfive.training.throughput import CHUNK_SECONDS, ChunkSizer, Throughput


def test_a_meter_sums_up() -> None:
    meter = Throughput()
    assert meter.speed().images_per_s == 0
    for _ in range(2):
        meter = meter.plus(100, 2.0, Times(data=0.5, compute=1.0))
    speed = meter.speed()
    assert (speed.images_per_s, speed.images_per_s_compute, speed.data_share) == (50, 100, 0.25)


def test_stretches_come_to_last_as_long_as_wanted() -> None:
    length, step = ChunkSizer(), 0.01
    for _ in range(6):
        length.took(length.steps, length.steps * step)
    assert length.steps == round(CHUNK_SECONDS / step)
    length.took(1, 5.0)
    assert length.steps == 1
