"""The CUDA engine's steps, recorded and done again on the CPU: they are the eager engine's."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines import cuda
from fivebyfive.engines.graphs import Replay
from fivebyfive.engines.interface import Epoch, Metrics
from fivebyfive.engines.precision import why_unsupported
from fivebyfive.kernels import products

from .comparing import same
from .recording import BATCH, CPU, NETWORKS, Recorder, build, eager, recipe, recorded, train


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.02), ("adam", 0.002)])
@pytest.mark.parametrize("name", NETWORKS)
def test_computes_what_the_eager_engine_does(
    name: str, optimizer: str, lr: float, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a card no layer is multiplied by oneDNN, whose sums have another order.
    monkeypatch.setattr(products, "mkl_is_slow", lambda: False)
    r = recipe(optimizer=optimizer, lr=lr, loss="nll" if name == "convnet" else "cross-entropy")
    net, recorder = build(name), Recorder()
    reference = eager(copy.deepcopy(net), r, data)
    engine = recorded(net, r, data, recorder)
    epochs = range(1, 5)
    assert train(engine, data, epochs) == train(reference, data, epochs)
    same(engine, reference)
    assert engine.notices() == []
    # Of 4 × 14 whole batches and 4 smaller ones the first two each weren't recorded.
    assert recorder.captured == 3  # eight whole batches, one, and the smaller one
    assert recorder.replayed == (1 + 4) + 3 * (1 + 6) + 2


@pytest.mark.parametrize("chunk", [1, 3, 9])
@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_neither_stretches_nor_steps_at_once_matter(
    at_once: int, chunk: int, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "AT_ONCE", at_once)
    r, net, recorder = recipe(optimizer="adam", lr=0.002), build("small"), Recorder()
    reference = eager(copy.deepcopy(net), r, data)
    engine = recorded(net, r, data, recorder)
    assert train(engine, data, range(1, 4), chunk) == train(reference, data, range(1, 4))
    same(engine, reference)
    assert recorder.captured == 2 + (1 < at_once <= chunk)


@pytest.mark.skipif(bool(why_unsupported("bf16", CPU)), reason="this processor has no bfloat16")
def test_bfloat16(data: Dataset) -> None:
    r, net, recorder = recipe(precision="bf16"), build("small"), Recorder()
    reference = eager(copy.deepcopy(net), r, data)
    engine = recorded(net, r, data, recorder)
    assert train(engine, data, range(1, 4)) == train(reference, data, range(1, 4))
    assert recorder.captured == 3


def test_resized_images(data: Dataset) -> None:
    r, recorder = recipe(resize=14, mean=0.1, std=0.3), Recorder()
    net = nn.Sequential(nn.Flatten(), nn.Linear(196, 3))
    reference = eager(copy.deepcopy(net), r, data)
    engine = recorded(net, r, data, recorder)
    assert train(engine, data, range(1, 4)) == train(reference, data, range(1, 4))
    assert recorder.captured == 3


def test_dropout_is_drawn_anew_in_every_step_and_epoch(data: Dataset) -> None:
    net, recorder = build("small"), Recorder()
    engine = recorded(net, recipe(lr=1e-30), data, recorder)  # so small that weights stay
    order = torch.arange(BATCH).repeat(4)  # the same images in every step
    losses = []
    for number in range(1, 5):
        tally, _ = engine.train(Epoch(number, order, BATCH), 0, 4, Metrics())
        losses += [tally.loss]
    assert recorder.replayed > 8
    assert len(set(losses)) == 4
    assert losses[2] != pytest.approx(losses[3], rel=1e-3)
    # Within an epoch an image has one mask, as with the eager engine.
    again, _ = engine.train(Epoch(3, order, BATCH), 0, 4, Metrics())
    assert again.loss == losses[2]


def test_a_recorded_stretch_is_read_once(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = recorded(build("lenet"), recipe(), data, Recorder())
    train(engine, data, range(1, 4))
    reads = []
    read = cuda.read
    monkeypatch.setattr(cuda, "read", lambda *args: reads.append(1) or read(*args))
    engine.train(Epoch(4, torch.arange(58), BATCH), 0, 15, Metrics())
    assert len(reads) == 1


def test_goes_on_from_another_optimizers_state(data: Dataset) -> None:
    r, net = recipe(optimizer="adam", lr=0.002), build("small")
    engines_ = [eager(copy.deepcopy(net), r, data), recorded(net, r, data, Recorder())]
    saved = {}
    for engine in engines_:
        train(engine, data, range(1, 3))
        saved = {name: value.clone() * 2 for name, value in engine.optimizer_state().items()}
    for engine in engines_:  # though steps with the old one have been recorded
        engine.load_optimizer_state(saved)
    tallies = [train(engine, data, range(3, 5)) for engine in engines_]
    assert tallies[0] == tallies[1]
    same(*engines_)
    # And from the start, as a run does that is resumed.
    others = [eager(copy.deepcopy(net), r, data), recorded(net, r, data, Recorder())]
    for engine in others:
        engine.load_optimizer_state(saved)
    tallies = [train(engine, data, range(3, 6)) for engine in others]
    assert tallies[0] == tallies[1]
    same(*others)


def test_follows_what_is_done_to_the_layers(data: Dataset) -> None:
    net, recorder = build("small"), Recorder()
    reference = eager(copy.deepcopy(net), recipe(), data)
    engine = recorded(net, recipe(), data, recorder)
    for each in (engine, reference):
        train(each, data, range(1, 4))
        dropouts = [m for m in each.network.modules() if isinstance(m, nn.Dropout)]
        dropouts[0].p = 0.1
        dropouts[1].eval()
    captured = recorder.captured
    assert train(engine, data, range(4, 6)) == train(reference, data, range(4, 6))
    same(engine, reference)
    assert recorder.captured == captured + 3  # once more, and not in every stretch
    assert engine.notices() == []


def test_adam_is_told_only_while_recording(data: Dataset) -> None:
    told = []

    class Watched(Recorder):
        def capture(self, work: Callable[[], None]) -> Replay:
            told.append(engine.optimizer.param_groups[0]["capturable"])
            return super().capture(work)

    engine = recorded(build("lenet"), recipe(optimizer="adam"), data, Watched())
    train(engine, data, range(1, 4))
    assert told == [True, True, True]
    assert not engine.optimizer.param_groups[0]["capturable"]
    assert all(p.grad is None for p in engine.network.parameters())
