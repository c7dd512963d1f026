"""The CUDA engine's steps, recorded and done again on the CPU: they are the eager engine's."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fivebyfive import engines, networks
from fivebyfive.cli import program
from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines import cuda, graphs
from fivebyfive.engines.cuda import AT_ONCE, WARM_UP, Cuda
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.graphs import Replay
from fivebyfive.engines.precision import lacks
from fivebyfive.engines.work import Epoch, Tally
from fivebyfive.errors import DeviceError
from fivebyfive.randomness import epoch_order
from fivebyfive.recipes import Recipe

CPU = torch.device("cpu")
BATCH = 4  # of 58 images: 14 whole batches, and one of 2


# --- a CPU that records --------------------------------------------------------------------------

#: What a card can't do while it records: be waited for, or be given numbers from the host.
FORBIDDEN = {torch.ops.aten._local_scalar_dense, torch.ops.aten.lift_fresh}


class Recording(TorchDispatchMode):
    """Keeps every operation with its tensors and numbers; replaying does it to the same tensors."""

    def __init__(self) -> None:
        super().__init__()
        self._done: list[tuple[Any, Sequence[Any], Mapping[str, Any], Any]] = []
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        if func.overloadpacket in FORBIDDEN or torch.Tag.nondeterministic_seeded in func.tags:
            raise RuntimeError(f"{func} isn't permitted when stream is capturing\nand more")
        # Batch norm changes what its schema doesn't say, so whatever it gets is kept.
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        made = func(*args, **(kwargs or {}))
        self._done.append((func, args, kwargs or {}, made))
        return made

    def undo(self) -> None:
        for storage, before in self._before.values():
            storage.copy_(before)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, made in self._done:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                storages = [x.untyped_storage() for x in (old, new) if isinstance(x, Tensor)]
                if storages and storages[0].data_ptr() != storages[1].data_ptr():
                    old.copy_(new)


class Recorder:
    """See ``engines.graphs.Graphs``. Like a card's graphs, its freeze numbers and addresses."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.captured = self.replayed = 0
        self._failure = failure

    def stream(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def capture(self, work: Callable[[], None]) -> Replay:
        recording = Recording()
        try:
            with recording:
                work()
                if self._failure is not None:
                    raise self._failure
        except RuntimeError as error:
            # As with cards, what is seen is that ending the capture failed, too.
            raise RuntimeError("operation failed due to a previous error") from error
        finally:
            recording.undo()
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            recording.replay()

        return replay

    def forget(self) -> None:
        pass


# --- networks and trainings ----------------------------------------------------------------------


def small() -> nn.Module:
    """An AlexNet's parts, small."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(3, stride=2), nn.Flatten(),
        nn.Linear(216, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 16), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(16, 3),
    )  # fmt: skip


def normalised() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 5), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(),
        nn.Linear(144, 3),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "lenet": lambda: networks.build("lenet", classes=3),
    "convnet": lambda: networks.build("convnet", classes=3),
    "small": small,
    "normalised": normalised,
}


def recipe(**changes: Any) -> Recipe:
    return Recipe(name="t", network="t", batch_size=BATCH, lr=0.02).but(**changes)


@pytest.fixture
def data(tiny: Dataset) -> Dataset:
    return Dataset("tiny", tiny.train.head(58), tiny.test, tiny.classes, "made up", {})


def build(name: str | Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(2)
    return NETWORKS[name]() if isinstance(name, str) else name()


def eager(net: nn.Module, r: Recipe, data: Dataset, parts: int | None = None) -> Eager:
    return Eager(net, r, data.train, data.test, CPU, parts)


def recorded(
    net: nn.Module, r: Recipe, data: Dataset, recorder: Recorder, parts: int | None = None
) -> Cuda:
    engine = Cuda(net, r, data.train, data.test, CPU, parts)
    engine._graphs = recorder
    return engine


def train(engine: Eager, data: Dataset, epochs: range, stretch: int = 100) -> list[Tally]:
    """Train epoch by epoch, some steps at a time, and test; all sums."""
    device, tallies = engine._device, []
    for number in epochs:
        order = epoch_order(0, number, len(data.train)).to(device)
        epoch, tally = Epoch(number, order, engine.recipe.batch_size), Tally()
        for first in range(0, epoch.steps, stretch):
            tally, times = engine.train(epoch, first, min(first + stretch, epoch.steps), tally)
            assert times.compute > 0
        tallies += [tally, engine.evaluate()]
    return tallies


def same(one: Eager, other: Eager) -> None:
    """To the last bit: on one CPU both do the same operations in the same order."""
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name]), name
    states = one.optimizer_state(), other.optimizer_state()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


# --- what is recorded ----------------------------------------------------------------------------


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.02), ("adam", 0.002)])
@pytest.mark.parametrize("name", NETWORKS)
def test_computes_what_the_eager_engine_does(
    name: str, optimizer: str, lr: float, data: Dataset
) -> None:
    r = recipe(optimizer=optimizer, lr=lr, loss="nll" if name == "convnet" else "cross-entropy")
    net, recorder = build(name), Recorder()
    reference = eager(copy.deepcopy(net), r, data)
    engine = recorded(net, r, data, recorder)
    epochs = range(1, 5)
    assert train(engine, data, epochs) == train(reference, data, epochs)
    same(engine, reference)
    assert engine.news() == []
    # Of 4 × 14 whole batches and 4 smaller ones the first two each weren't recorded.
    assert recorder.captured == 3  # eight whole batches, one, and the smaller one
    assert recorder.replayed == (1 + 4) + 3 * (1 + 6) + 2


@pytest.mark.parametrize("stretch", [1, 3, 9])
@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_neither_stretches_nor_steps_at_once_matter(
    at_once: int, stretch: int, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "AT_ONCE", at_once)
    r, net, recorder = recipe(optimizer="adam", lr=0.002), build("small"), Recorder()
    reference = eager(copy.deepcopy(net), r, data)
    engine = recorded(net, r, data, recorder)
    assert train(engine, data, range(1, 4), stretch) == train(reference, data, range(1, 4))
    same(engine, reference)
    assert recorder.captured == 2 + (1 < at_once <= stretch)


@pytest.mark.skipif(bool(lacks("bf16", CPU)), reason="this processor has no bfloat16")
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
        tally, _ = engine.train(Epoch(number, order, BATCH), 0, 4, Tally())
        losses += [tally.loss]
    assert recorder.replayed > 8
    assert len(set(losses)) == 4
    assert losses[2] != pytest.approx(losses[3], rel=1e-3)
    # Within an epoch an image has one mask, as with the eager engine.
    again, _ = engine.train(Epoch(3, order, BATCH), 0, 4, Tally())
    assert again.loss == losses[2]


def test_a_recorded_stretch_is_read_once(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = recorded(build("lenet"), recipe(), data, Recorder())
    train(engine, data, range(1, 4))
    reads = []
    read = cuda.read
    monkeypatch.setattr(cuda, "read", lambda *args: reads.append(1) or read(*args))
    engine.train(Epoch(4, torch.arange(58), BATCH), 0, 15, Tally())
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
    assert engine.news() == []


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


# --- what is not ---------------------------------------------------------------------------------


class Forks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


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
    (ending_in(Jitters), "the network draws random numbers of its own"),
    (ending_in(JittersInPython), "the network draws random numbers of its own"),
    (ending_in(Counts), "the network keeps something from one step to the next"),
    (ending_in(Averages), "the network keeps something from one step to the next"),
    (hooking, "there are hooks on the network's modules"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "reason"), UNFIT)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_cant_be_recorded_is_computed(
    make: Callable[[], nn.Module], reason: str, optimizer: str, data: Dataset
) -> None:
    r = recipe(optimizer=optimizer, lr=0.002)
    reference = eager(build(make), r, data)
    engine = recorded(build(make), r, data, Recorder())
    assert train(engine, data, range(1, 4), 6) == train(reference, data, range(1, 4), 6)
    same(engine, reference)
    assert [(notice.kind, notice.message) for notice in engine.news()] == [
        ("engine", f"from here on without CUDA graphs, as the eager engine computes: {reason}.")
    ]
    assert engine.micro_batch == BATCH
    assert engine.news() == []


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
    (notice,) = engine.news()
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
    assert len(engine.news()) == 1


def test_batches_in_parts_are_computed(data: Dataset) -> None:
    net, recorder = build("small"), Recorder()
    reference = eager(copy.deepcopy(net), recipe(), data, 2)
    engine = recorded(net, recipe(), data, recorder, 2)
    assert train(engine, data, range(1, 3)) == train(reference, data, range(1, 3))
    same(engine, reference)
    (notice,) = engine.news()
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
        each.train(epoch, 14, 15, Tally())
        train(each, data, range(3, 4))
    assert engine.micro_batch == 1
    same(engine, reference)
    assert [notice.kind for notice in engine.news()] == ["engine", "out-of-memory"]


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
    assert engine.news() == []


# --- how PyTorch is asked to record --------------------------------------------------------------


def test_streams_and_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for PyTorch's, since they can't be made without a card."""
    torch_cuda = Mock()
    torch_cuda.stream.side_effect = contextlib.nullcontext
    torch_cuda.graph.side_effect = lambda *_, **__: contextlib.nullcontext()
    torch_cuda.graph_pool_handle.side_effect = ["first pool", "second pool"]
    monkeypatch.setattr(torch, "cuda", torch_cuda)
    recorder = graphs.CudaGraphs(torch.device("cuda"))
    own, usual = torch_cuda.Stream.return_value, torch_cuda.current_stream.return_value
    with contextlib.suppress(KeyError), recorder.stream():
        own.wait_stream.assert_called_once_with(usual)
        torch_cuda.stream.assert_called_once_with(own)
        usual.wait_stream.assert_not_called()
        raise KeyError  # even then what comes later waits
    usual.wait_stream.assert_called_once_with(own)
    work = Mock()
    replays = [recorder.capture(work), recorder.capture(work)]
    recorder.forget()
    replays.append(recorder.capture(work))
    assert work.call_count == 3
    asked = [call.kwargs for call in torch_cuda.graph.call_args_list]
    assert [each["pool"] for each in asked] == ["first pool", "first pool", "second pool"]
    assert {(each["stream"], each["capture_error_mode"]) for each in asked} == {
        (own, "thread_local")
    }
    replays[0]()
    torch_cuda.CUDAGraph.return_value.replay.assert_called_once_with()


# --- on a card, and asking for one ---------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_only_cards_have_it(device: str, data: Dataset) -> None:
    with pytest.raises(DeviceError, match=f"the cuda engine can't run: the device is {device}"):
        engines.make("cuda", small(), recipe(), data.train, data.test, torch.device(device))


def test_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "lenet", "--data", "sample", "--device", "cpu", "--engine", "cuda"]
    assert program(words) == 2
    said = capsys.readouterr().err
    assert "the cuda engine can't run: the device is cpu. --engine eager runs everywhere." in said


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA card here")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", NETWORKS)
def test_on_a_card(name: str, optimizer: str, data: Dataset) -> None:
    card = torch.device("cuda", torch.cuda.current_device())
    r = recipe(optimizer=optimizer, lr=0.002, loss="nll" if name == "convnet" else "cross-entropy")
    net, results = build(name), []
    for kind in (Eager, Cuda):
        engine = kind(copy.deepcopy(net), r, data.train, data.test, card)
        tallies = train(engine, data, range(1, 5))
        assert engine.news() == []
        results.append(([tally.loss for tally in tallies], engine.network.state_dict()))
    # Kernels that add up in no fixed order leave the last bits open.
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-3)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-2, atol=1e-4)
    assert isinstance(engine, Cuda)
    assert {steps.count for steps in engine._steps.values()} == {1, AT_ONCE}
    assert engine._computed == {BATCH: WARM_UP, 2: WARM_UP}
