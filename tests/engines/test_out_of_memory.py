"""Memory runs out in every place: the run goes on, as if it had been started with that split."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fivebyfive import engines
from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.eager import FIRST_STEPS, Eager
from fivebyfive.engines.interface import Job, Metrics
from fivebyfive.engines.out_of_memory import is_out_of_memory
from fivebyfive.lib.errors import OutOfMemoryError

from .comparing import same
from .guarded import BATCH, ERRORS, epoch, guard_of, network, recipe

CPU = torch.device("cpu")
PLACES = ["forward", "backward", "optimizer"]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:20])
def test_they_are_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)


def fail_once(engine: Eager, error: Exception) -> None:
    """The optimizer's next step fails before it writes anything."""
    step: Callable[[], object] = engine.optimizer.step

    def fails() -> None:
        engine.optimizer.step = step  # type: ignore[method-assign, assignment]
        raise error

    engine.optimizer.step = fails  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(("place", "error"), list(zip(PLACES, ERRORS, strict=False)))
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kind", engines.ENGINES.values())
def test_goes_on_as_if_started_so(
    kind: type[Eager], optimizer: str, place: str, error: Exception, tiny: Dataset
) -> None:
    r = recipe(optimizer=optimizer)
    failing = kind(Job(network(), r, tiny.train, tiny.test, CPU))
    if place == "optimizer":
        fail_once(failing, error)
        fits = BATCH // 2
    else:
        guard = guard_of(failing)
        guard.most, guard.place, guard.error = 5, place, error
        fits = BATCH // 4
    started = kind(Job(network(), r, tiny.train, tiny.test, CPU, fits))
    each = epoch(tiny)
    tallies = [engine.train(each, 0, each.steps, Metrics())[0] for engine in (failing, started)]
    assert failing.micro_batch == started.micro_batch == fits
    assert tallies[0] == tallies[1]
    same(failing, started)
    told = [notice for notice in failing.notices() if notice.kind == "out-of-memory"]
    assert [notice.message for notice in told] == [
        f"out of memory at 16 images at a time: from here on {BATCH // fits} × {fits}, with the "
        "gradients added up; the batch and its mathematics stay."
    ]
    assert failing.notices() == []


@pytest.mark.parametrize("done", [1, FIRST_STEPS])
@pytest.mark.parametrize("kind", engines.ENGINES.values())
def test_in_the_middle_of_a_run(kind: type[Eager], done: int, tiny: Dataset) -> None:
    each = epoch(tiny)
    runs = []
    for way in ("fails", "set"):
        engine = kind(Job(network(), recipe(optimizer="adam"), tiny.train, tiny.test, CPU))
        tally, _ = engine.train(each, 0, done, Metrics())
        if way == "set":
            engine.micro_batch = 8
        else:
            guard_of(engine).most = 8
        tally, _ = engine.train(each, done, each.steps, tally)
        runs.append((engine, tally))
    (failed, one), (started, other) = runs
    assert one == other
    if done < FIRST_STEPS:
        same(failed, started)
        return
    # Where as many images had fitted before, running statistics have seen some of them twice.
    seen = [dict(engine.network.named_buffers())["1.num_batches_tracked"] for engine, _ in runs]
    assert seen[0] == seen[1] + 1
    for engine, _ in runs:
        for buffer in engine.network.buffers():
            buffer.zero_()
    same(failed, started)


@pytest.mark.parametrize("allocation", range(6))
def test_adams_first_step_fails_while_it_makes_its_moments(
    allocation: int, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    r = recipe(optimizer="adam")
    engine = Eager(Job(network(), r, tiny.train, tiny.test, CPU))
    started = Eager(Job(network(), r, tiny.train, tiny.test, CPU, BATCH // 2))
    step, zeros_like, calls = engine.optimizer.step, torch.zeros_like, iter(range(100))

    def no_room(*args: Any, **kwargs: Any) -> Tensor:
        if next(calls) == allocation:
            raise ERRORS[1]
        return zeros_like(*args, **kwargs)

    def failing_step() -> object:
        with monkeypatch.context() as patch:
            patch.setattr(torch, "zeros_like", no_room)
            return step()

    monkeypatch.setattr(engine.optimizer, "step", failing_step)
    for each in (engine, started):
        each.train(epoch(tiny), 0, 3, Metrics())
    assert next(calls) > allocation
    same(engine, started)


@pytest.mark.parametrize("kind", engines.ENGINES.values())
def test_the_test_splits_on_its_own(
    kind: type[Eager], tiny: Dataset, tolerances: ModuleType
) -> None:
    engine = kind(Job(network(), recipe(), tiny.train, tiny.test, CPU))
    expected = engine.evaluate()
    guard = guard_of(engine)
    guard.most = 6
    for _ in range(2):
        found = engine.evaluate()
        assert (found.correct, found.count) == (expected.correct, expected.count)
        most = tolerances.of_sum(20 * tolerances.LENET_TERMS)
        assert found.loss == pytest.approx(expected.loss, rel=most)
    assert engine.micro_batch == BATCH
    (notice,) = engine.notices()  # told once
    assert notice.kind == "out-of-memory"
    assert notice.message == (
        "out of memory in the test at 20 images at a time: from here on 4 × 5. The result stays."
    )


@pytest.mark.parametrize("kind", engines.ENGINES.values())
def test_a_single_image_too_many(kind: type[Eager], tiny: Dataset) -> None:
    engine = kind(Job(network(), recipe(), tiny.train, tiny.test, CPU))
    guard = guard_of(engine)
    guard.most = 0
    guard.error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"
                               " 70368744177664 bytes. Error code 12")  # fmt: skip
    for call in (lambda: engine.train(epoch(tiny), 0, 1, Metrics()), engine.evaluate):
        with pytest.raises(
            OutOfMemoryError, match="on cpu even with one image at a time"
        ) as caught:
            call()
        assert "70.4 TB more were asked for" in str(caught.value)
        assert "missing" in str(caught.value)
        assert "--resize" in str(caught.value)
        assert caught.value.status == 1


def test_too_little_memory_for_network_and_data(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network()

    def no_room(*args: object) -> None:
        raise ERRORS[0]

    monkeypatch.setattr(net, "to", no_room)
    with pytest.raises(
        OutOfMemoryError, match=r"before the first step: 2.15 GB more were asked for"
    ):
        engines.make("eager", Job(net, recipe(), tiny.train, tiny.test, CPU))


def test_other_errors_are_the_users_to_see(tiny: Dataset) -> None:
    engine = Eager(Job(network(), recipe(), tiny.train, tiny.test, CPU))
    guard = guard_of(engine)
    guard.most, guard.error = 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        engine.train(epoch(tiny), 0, 1, Metrics())
    assert engine.micro_batch == BATCH


def test_a_failed_attempt_keeps_no_tensor_alive(tiny: Dataset) -> None:
    """Between a failure and the next attempt nothing of the first is left."""
    alive: list[int] = []
    count = 0

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            nonlocal count
            count += 1
            ctx.held = Held()
            return x.view_as(x)

        @staticmethod
        def backward(_: Any, grad: Tensor) -> Tensor:
            return grad

    class Held:
        def __del__(self) -> None:
            nonlocal count
            count -= 1

    class Watching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            alive.append(count)
            return Watched.apply(x)  # type: ignore[no-any-return, no-untyped-call]

    first, *rest = network()
    net = nn.Sequential(first, Watching(), *rest)
    engine = Eager(Job(net, recipe(), tiny.train, tiny.test, CPU))
    guard = guard_of(engine)
    guard.most, guard.place = 5, "backward"
    alive.clear()
    engine.train(epoch(tiny), 0, 1, Metrics())
    assert len(alive) == 1 + 1 + 4  # whole, the first half, and four quarters
    assert alive[:3] == [0, 0, 0]
