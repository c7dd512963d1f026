"""What the CUDA engine can't record it computes as the eager engine does, and says why."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.graphs import Replay
from fivebyfive.engines.interface import Epoch, Metrics
from fivebyfive.lib.randomness import epoch_order

from .comparing import same
from .recording import BATCH, Forks, Recorder, build, eager, recipe, recorded, small, train


class Picks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x[x > 0].sum() / 10


class Jitters(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.01 * torch.rand_like(x)


class JittersInPython(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0 * random.random()


class Counts(nn.Module):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x / self.calls


class Averages(nn.Module):
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - self.mean


def hooking() -> nn.Module:
    net = build("lenet")
    list(net.modules())[1].register_forward_hook(lambda *_: None)
    return net


def ending_in(kind: type[nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*small(), kind())  # type: ignore[arg-type]


UNFIT: list[tuple[Callable[[], nn.Module], str]] = [
    (ending_in(Forks), "a step can't be recorded (aten._local_scalar_dense.default isn't "
                       "permitted when stream is capturing)"),
    (ending_in(Picks), "a step can't be recorded (aten.index.Tensor isn't permitted when stream is "
                       "capturing)"),
    (ending_in(Jitters), "the network draws random numbers of its own"),
    (ending_in(JittersInPython), "the network draws random numbers of its own"),
    (ending_in(Counts), "the network keeps something from one step to the next"),
    (ending_in(Averages), "the network keeps something from one step to the next"),
    (hooking, "there are hooks on the network's modules"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "reason"), UNFIT)
@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.slow)])
def test_what_cant_be_recorded_is_computed(
    make: Callable[[], nn.Module], reason: str, optimizer: str, data: Dataset
) -> None:
    r = recipe(optimizer=optimizer, lr=0.002)
    reference = eager(build(make), r, data)
    engine = recorded(build(make), r, data, Recorder())
    assert train(engine, data, range(1, 4), 6) == train(reference, data, range(1, 4), 6)
    same(engine, reference)
    assert [(notice.kind, notice.message) for notice in engine.notices()] == [
        ("engine", f"from here on without CUDA graphs, as the eager engine computes: {reason}.")
    ]
    assert engine.micro_batch == BATCH
    assert engine.notices() == []


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["small", "normalised"])
@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory"),
        (RuntimeError("CUDA error: not supported\nsee above"), "CUDA error: not supported"),
        (ValueError(), "ValueError"),
    ],
)
def test_a_recording_that_fails_leaves_no_trace(
    failure: Exception, reason: str, name: str, optimizer: str, data: Dataset
) -> None:
    r, net = recipe(optimizer=optimizer, lr=0.002), build(name)
    reference = eager(copy.deepcopy(net), r, data)
    engine = recorded(net, r, data, Recorder(failure))
    assert train(engine, data, range(1, 3)) == train(reference, data, range(1, 3))
    same(engine, reference)
    (notice,) = engine.notices()
    assert notice.message.endswith(f": a step can't be recorded ({reason}).")


def test_a_recording_that_fails_later(data: Dataset) -> None:
    class Full(Recorder):
        def capture(self, work: Callable[[], None]) -> Replay:
            if self.captured == 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().capture(work)

    net, recorder = build("small"), Full()
    reference = eager(copy.deepcopy(net), recipe(), data)
    engine = recorded(net, recipe(), data, recorder)
    assert train(engine, data, range(1, 5)) == train(reference, data, range(1, 5))
    same(engine, reference)
    assert recorder.replayed > 10
    assert len(engine.notices()) == 1


def test_batches_in_parts_are_computed(data: Dataset) -> None:
    net, recorder = build("small"), Recorder()
    reference = eager(copy.deepcopy(net), recipe(), data, 2)
    engine = recorded(net, recipe(), data, recorder, 2)
    assert train(engine, data, range(1, 3)) == train(reference, data, range(1, 3))
    same(engine, reference)
    (notice,) = engine.notices()
    assert notice.message.endswith(": batches are computed in parts.")
    assert recorder.captured == 0


def test_out_of_memory_in_a_computed_step(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    net = build("small")
    reference = eager(copy.deepcopy(net), recipe(), data)
    engine = recorded(net, recipe(), data, Recorder())
    tallies = [train(each, data, range(1, 2))[0] for each in (engine, reference)]
    assert tallies[0] == tallies[1]
    reference.micro_batch = 1

    def no_room(*_: object) -> Iterator[None]:
        monkeypatch.undo()
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine.optimizer, "step", no_room)  # in the second smaller batch
    epoch = Epoch(2, epoch_order(0, 2, 58), BATCH)
    for each in (engine, reference):
        each.train(epoch, 14, 15, Metrics())
        train(each, data, range(3, 4))
    assert engine.micro_batch == 1
    same(engine, reference)
    assert [notice.kind for notice in engine.notices()] == ["engine", "out-of-memory"]


def test_a_short_test_gives_the_graphs_memory_back(data: Dataset) -> None:
    class Room(Recorder):
        forgot = 0

        def forget(self) -> None:
            self.forgot += 1

    recorder = Room()
    engine = recorded(build("lenet"), recipe(), data, recorder)
    train(engine, data, range(1, 3))
    before = recorder.forgot
    engine._make_room()
    assert recorder.forgot == before + 1
    reference = eager(build("lenet"), recipe(), data)
    train(reference, data, range(1, 3))
    assert train(engine, data, range(3, 4)) == train(reference, data, range(3, 4))
    assert engine.notices() == []
