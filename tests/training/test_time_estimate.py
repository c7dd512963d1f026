from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivebyfive import recipes
from fivebyfive.training.events import ChunkDone, Noticed, Speed
from fivebyfive.training.time_estimate import TimeEstimate, explain, remaining

ALEXNET = recipes.get("alexnet-d2l")


def chunk(step: int, steps: int = 469, epoch: int = 1) -> ChunkDone:
    return ChunkDone(epoch, step, steps, 128 * step, 2.3, 0.1, Speed(0, 0, 0), mark=False)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def watched(
    time_estimate: TimeEstimate, clock: Clock, stretches: list[tuple[float, ChunkDone]]
) -> list:
    """What is said after each stretch, which takes so many seconds."""
    said = []
    for seconds, each in stretches:
        clock.now += seconds
        said.append(time_estimate.notice(each))
    return said


def time_estimate(**options) -> tuple[TimeEstimate, Clock]:
    clock = Clock()
    return TimeEstimate(ALEXNET, 60_000, 10_000, clock=clock, **options), clock


def test_alexnet_on_two_cores_is_told_within_its_first_steps():
    said = watched(*time_estimate(), [(9.0, chunk(1)), *((2.8, chunk(n)) for n in range(2, 8))])
    told = [notice for notice in said if notice]
    assert said[:2] == [None, None]  # the step that warms up, and one that is not enough
    (notice,) = told  # once
    assert isinstance(notice, Noticed)
    assert (notice.kind, notice.epoch) == ("long", 1)
    for part in ("3 h 5", "for 10 epochs at 46 images/s", "--epochs", "--limit"):
        assert part in notice.message
    assert "bf16" not in notice.message


def test_what_would_be_faster_is_told_where_it_is():
    said = watched(*time_estimate(bf16=True), [(9.0, chunk(1)), (6.0, chunk(3))])
    assert "--precision auto" in said[1].message


def test_a_short_training_goes_without():
    said = watched(*time_estimate(), [(1.0, chunk(1)), (6.0, chunk(200)), (900.0, chunk(300))])
    assert said == [None, None, None]


def test_a_resumed_training_tells_what_is_left():
    said = watched(
        *time_estimate(), [(9.0, chunk(100, epoch=9)), (2.8, chunk(101, epoch=9)),
                     (2.8, chunk(102, epoch=9))]
    )  # fmt: skip
    assert "41 min for 2 epochs" in said[-1].message


@given(st.floats(1, 1e6), st.integers(1, 100_000), st.integers(1, 100_000), st.floats(0, 100))
def test_twice_the_speed_is_half_the_time(speed, train, test, epochs):
    once, twice = (remaining(s, train, test, epochs) for s in (speed, 2 * speed))
    assert twice == pytest.approx(once / 2)


def test_one_epoch_is_one():
    assert "for 1 epoch at 1,234 images/s" in explain(3600, 1234.4, 1.2, bf16=False)
