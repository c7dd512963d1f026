"""Memory runs out in every place: the run goes on, as if it had been started with that split."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fivebyfive import engines, networks
from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.cpu import Cpu
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.micro_batches import in_parts, parts
from fivebyfive.engines.out_of_memory import is_out_of_memory
from fivebyfive.engines.work import Epoch, Tally
from fivebyfive.errors import OutOfMemoryError, RecipeError
from fivebyfive.kernels.library import report
from fivebyfive.recipes import Recipe

CPU = torch.device("cpu")
BATCH = 16

#: What PyTorch, C++, oneDNN and Python raise where there is no memory left.
ERRORS = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate"
                 " memory: you tried to allocate 4096 bytes. Error code 12"),
    MemoryError("std::bad_alloc"),
    RuntimeError("could not create a memory object"),
    RuntimeError("could not create a primitive"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1.00 GB, max allowed: 2.00 GB)."),
]  # fmt: skip
PLACES = ["forward", "backward", "optimizer"]


class Guard(nn.Module):
    """Lets everything through, but raises where it is told to when more than ``most`` images come.

    Attributes:
        most: how many images there is memory for.
        place: ``forward`` or ``backward``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = 10**6
        self.place = "forward"
        self.error: Exception = ERRORS[0]

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most and self.place == "forward":
            raise self.fresh()
        return _Backward.apply(x, self) if self.training else x  # type: ignore[no-untyped-call]

    def fresh(self) -> Exception:
        """The error anew: one that is kept would keep its traceback, and that the tensors."""
        return type(self.error)(*self.error.args)


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, guard: Guard) -> Tensor:
        ctx.guard = guard
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if len(grad) > ctx.guard.most and ctx.guard.place == "backward":
            raise ctx.guard.fresh()
        return grad, None


class Small(nn.Sequential):
    """An AlexNet's parts, small, with batch normalisation, and a guard in the middle."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 8, 5, padding=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            Guard(),
            nn.Flatten(),
            nn.Linear(1352, 32),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(32, 3),
        )

    @property
    def guard(self) -> Guard:
        guard = self[4]
        assert isinstance(guard, Guard)
        return guard


def network() -> Small:
    torch.manual_seed(3)
    return Small()


def recipe(**changes: object) -> Recipe:
    return Recipe(name="t", network="t", batch_size=BATCH, lr=0.01).but(**changes)


def epoch(data: Dataset) -> Epoch:
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(1))
    return Epoch(1, order, BATCH)


def same(one: Eager, other: Eager) -> None:
    """Weights, batch statistics and the optimizer's state are the same bits."""
    for states in (
        (one.network.state_dict(), other.network.state_dict()),
        (one.optimizer_state(), other.optimizer_state()),
    ):
        assert states[0].keys() == states[1].keys()
        for name, value in states[0].items():
            assert torch.equal(value, states[1][name]), name


def fail_once(engine: Eager, error: Exception) -> None:
    """The optimizer's next step fails before it writes anything."""
    step: Callable[[], object] = engine.optimizer.step

    def fails() -> None:
        engine.optimizer.step = step  # type: ignore[method-assign, assignment]
        raise error

    engine.optimizer.step = fails  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:20])
def test_they_are_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(("place", "error"), list(zip(PLACES, ERRORS, strict=False)))
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kind", engines.ENGINES.values())
def test_goes_on_as_if_started_so(
    kind: type[Eager], optimizer: str, place: str, error: Exception, tiny: Dataset
) -> None:
    r = recipe(optimizer=optimizer)
    failing = kind(network(), r, tiny.train, tiny.test, CPU)
    if place == "optimizer":
        fail_once(failing, error)
        fits = BATCH // 2
    else:
        guard = next(m for m in failing.network.modules() if isinstance(m, Guard))
        guard.most, guard.place, guard.error = 5, place, error
        fits = BATCH // 4
    started = kind(network(), r, tiny.train, tiny.test, CPU, fits)
    each = epoch(tiny)
    tallies = [engine.train(each, 0, each.steps, Tally())[0] for engine in (failing, started)]
    assert failing.micro_batch == started.micro_batch == fits
    assert tallies[0] == tallies[1]
    same(failing, started)
    told = [notice for notice in failing.news() if notice.kind == "out-of-memory"]
    assert [notice.message for notice in told] == [
        f"out of memory at 16 images at a time: from here on {BATCH // fits} × {fits}, with the "
        "gradients added up; the batch and its mathematics stay."
    ]
    assert failing.news() == []


@pytest.mark.parametrize("kind", engines.ENGINES.values())
def test_in_the_middle_of_a_run(kind: type[Eager], tiny: Dataset) -> None:
    each = epoch(tiny)
    runs = []
    for way in ("fails", "set"):
        engine = kind(network(), recipe(optimizer="adam"), tiny.train, tiny.test, CPU)
        tally, _ = engine.train(each, 0, 2, Tally())
        if way == "set":
            engine.micro_batch = 8
        else:
            next(m for m in engine.network.modules() if isinstance(m, Guard)).most = 8
        engine.train(each, 2, each.steps, tally)
        runs.append(engine)
    same(*runs)


@pytest.mark.parametrize("allocation", range(6))
def test_adams_first_step_fails_while_it_makes_its_moments(
    allocation: int, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Eager(network(), recipe(optimizer="adam"), tiny.train, tiny.test, CPU)
    started = Eager(network(), recipe(optimizer="adam"), tiny.train, tiny.test, CPU, BATCH // 2)
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
        each.train(epoch(tiny), 0, 3, Tally())
    assert next(calls) > allocation
    same(engine, started)


def test_the_kernels_run_out_of_memory(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    if not report().active:
        pytest.skip("the kernels aren't built here")
    torch.manual_seed(0)
    lenet = networks.build("lenet", classes=3)
    r = recipe(optimizer="adam", lr=0.001)
    failing, started = (
        Cpu(copy.deepcopy(lenet), r, tiny.train, tiny.test, CPU, micro_batch)
        for micro_batch in (None, BATCH // 2)
    )

    def no_room(*args: object) -> None:
        raise ERRORS[1]

    assert failing._stepper is not None
    monkeypatch.setattr(failing._stepper, "train", no_room)
    each = epoch(tiny)
    tallies = [engine.train(each, 0, each.steps, Tally())[0] for engine in (failing, started)]
    assert tallies[0] == tallies[1]
    assert failing._stepper is None
    assert failing.evaluate() == started.evaluate()
    same(failing, started)
    assert [notice.message.split(",")[0] for notice in failing.news()] == [
        "out of memory at 16 images at a time: from here on 2 × 8"
    ]


def test_pytorch_goes_on_with_the_kernels_moments(tiny: Dataset) -> None:
    torch.manual_seed(0)
    lenet = networks.build("lenet", classes=3)
    r = recipe(optimizer="adam", lr=0.001)
    each = epoch(tiny)
    losses = []
    for kind in (Cpu, Eager):
        engine = kind(copy.deepcopy(lenet), r, tiny.train, tiny.test, CPU)
        tally, _ = engine.train(each, 0, 2, Tally())
        engine.micro_batch = 8
        losses.append(engine.train(each, 2, each.steps, tally)[0].loss)
        steps = [v for name, v in engine.optimizer_state().items() if name.endswith("/step")]
        assert {step.item() for step in steps} == {each.steps}
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_kernels_run_out_of_memory_in_the_test(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not report().active:
        pytest.skip("the kernels aren't built here")
    engine = Cpu(networks.build("lenet", classes=3), recipe(), tiny.train, tiny.test, CPU)
    expected = engine.evaluate()

    def no_room(*args: object) -> None:
        raise ERRORS[1]

    monkeypatch.setattr(engine._stepper, "evaluate", no_room)
    found = engine.evaluate()
    assert (found.correct, found.count) == (expected.correct, expected.count)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)


@pytest.mark.parametrize("kind", engines.ENGINES.values())
def test_the_test_splits_on_its_own(kind: type[Eager], tiny: Dataset) -> None:
    engine = kind(network(), recipe(), tiny.train, tiny.test, CPU)
    expected = engine.evaluate()
    guard = next(m for m in engine.network.modules() if isinstance(m, Guard))
    guard.most = 6
    for _ in range(2):
        found = engine.evaluate()
        assert (found.correct, found.count) == (expected.correct, expected.count)
        assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    assert engine.micro_batch == BATCH
    (notice,) = engine.news()  # told once
    assert notice.kind == "out-of-memory"
    assert notice.message == (
        "out of memory in the test at 20 images at a time: from here on 4 × 5. The result stays."
    )


@pytest.mark.parametrize("kind", engines.ENGINES.values())
def test_a_single_image_too_many(kind: type[Eager], tiny: Dataset) -> None:
    engine = kind(network(), recipe(), tiny.train, tiny.test, CPU)
    guard = next(m for m in engine.network.modules() if isinstance(m, Guard))
    guard.most = 0
    guard.error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"
                               " 70368744177664 bytes. Error code 12")  # fmt: skip
    for call in (lambda: engine.train(epoch(tiny), 0, 1, Tally()), engine.evaluate):
        with pytest.raises(
            OutOfMemoryError, match="on cpu even with one image at a time"
        ) as caught:
            call()
        assert "6.55e+04 GiB more were asked for" in str(caught.value)
        assert "missing" in str(caught.value)
        assert "--resize" in str(caught.value)
        assert caught.value.status == 1


def test_other_errors_are_the_users_to_see(tiny: Dataset) -> None:
    engine = Eager(network(), recipe(), tiny.train, tiny.test, CPU)
    guard = next(m for m in engine.network.modules() if isinstance(m, Guard))
    guard.most, guard.error = 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        engine.train(epoch(tiny), 0, 1, Tally())
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
    engine = Eager(net, recipe(), tiny.train, tiny.test, CPU)
    guard = next(m for m in net.modules() if isinstance(m, Guard))
    guard.most, guard.place = 5, "backward"
    alive.clear()
    engine.train(epoch(tiny), 0, 1, Tally())
    assert len(alive) == 1 + 1 + 4  # whole, the first half, and four quarters
    assert alive[:3] == [0, 0, 0]


@pytest.mark.parametrize("micro_batch", [1, 3, 5, 16])
def test_gradients_of_parts_are_those_of_the_whole(micro_batch: int, tiny: Dataset) -> None:
    """Also in the odd last batch: 60 images are three batches of 16, and one of 12."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.Tanh(), nn.Linear(20, 3))
    exact = copy.deepcopy(net).double()
    engine = Eager(net, recipe(lr=1e-9), tiny.train, tiny.test, CPU, micro_batch)
    each = epoch(tiny)
    for step in (0, each.steps - 1):
        tally, _ = engine.train(each, step, step + 1, Tally())
        indices = each.batch(step)
        images = tiny.train.images[indices].double() / 255
        exact.zero_grad()
        loss = nn.functional.cross_entropy(exact(images), tiny.train.labels[indices])
        loss.backward()
        assert tally.count == len(indices)
        assert tally.mean_loss == pytest.approx(loss.item(), rel=1e-6)
        for mine, theirs in zip(net.parameters(), exact.parameters(), strict=True):
            torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-4, atol=1e-7)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300))
def test_parts_are_few_equal_and_all(count: int, at_most: int) -> None:
    batch = torch.arange(count)
    split = parts(batch, at_most)
    sizes = [len(part) for part in split]
    assert torch.equal(torch.cat(split), batch)
    assert max(sizes) <= at_most
    assert max(sizes) - min(sizes) <= 1
    assert len(split) == -(-count // at_most)
    number, _, each = (
        in_parts(count, at_most, count).message.split("on ")[1].split(",")[0].split(" ", 2)
    )
    assert int(number) == len(split)
    assert each == " or ".join(map(str, sorted(set(sizes), reverse=True)))


@pytest.mark.parametrize(
    ("micro_batch", "message"),
    [
        (0, "micro_batch is 0; expected a whole number of at least 1"),
        (-3, "micro_batch is -3"),
        (2.5, "micro_batch is 2.5"),
        (True, "micro_batch is True"),
        (17, "micro_batch is 17, more than the 16 images of a batch; expected at most 16"),
    ],
)
def test_refuses_what_cant_be(micro_batch: Any, message: str, tiny: Dataset) -> None:
    with pytest.raises(RecipeError, match=message):
        engines.make("eager", network(), recipe(), tiny.train, tiny.test, CPU, micro_batch)


def test_warns_where_batches_are_normalised(tiny: Dataset) -> None:
    engine = engines.make("eager", network(), recipe(), tiny.train, tiny.test, CPU, 4)
    (notice,) = engine.news()
    assert notice.kind == "batch-statistics"
    assert "now at most 4 instead of 16: that changes its results" in notice.message
    for net, micro_batch in ((network(), None), (networks.build("lenet", classes=3), 4)):
        engine = engines.make("eager", net, recipe(), tiny.train, tiny.test, CPU, micro_batch)
        assert engine.news() == []
    frozen = network()
    frozen[1].eval()
    assert engines.make("eager", frozen, recipe(), tiny.train, tiny.test, CPU, 4).news() == []


def test_too_little_memory_for_network_and_data(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network()

    def no_room(*args: object) -> None:
        raise ERRORS[0]

    monkeypatch.setattr(net, "to", no_room)
    with pytest.raises(OutOfMemoryError, match=r"before the first step: 2 GiB more were asked for"):
        engines.make("eager", net, recipe(), tiny.train, tiny.test, CPU)
