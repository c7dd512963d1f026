"""A CPU that records and does again as a card's graphs do, and what the tests train on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fivebyfive import networks
from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.cuda import Cuda
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.graphs import Replay
from fivebyfive.engines.interface import Epoch, Job, Metrics
from fivebyfive.lib.randomness import epoch_order
from fivebyfive.recipes import Recipe

CPU = torch.device("cpu")
BATCH = 4  # of 58 images: 14 whole batches, and one of 2


#: Operations whose outcome the host waits for, or that draw from PyTorch's generator.
FORBIDDEN = {
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
    torch.Tag.nondeterministic_seeded,
}


def forbidden(func: Any, args: Sequence[Any]) -> bool:
    """Whether a card can't record this: the host would wait for it, or give it numbers."""
    if func == torch.ops.aten.index.Tensor:  # the host has to know how many a mask picks
        return any(each is not None and each.dtype == torch.bool for each in args[1])
    return not FORBIDDEN.isdisjoint(func.tags) or func == torch.ops.aten.lift_fresh.default


class Recording(TorchDispatchMode):
    """Keeps every operation with its tensors and numbers; replaying does it to the same tensors."""

    def __init__(self) -> None:
        super().__init__()
        self._done: list[tuple[Any, Sequence[Any], Mapping[str, Any], Any]] = []
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        if forbidden(func, args):
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


class Forks(nn.Module):
    """Asks for a value on the way."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "lenet": lambda: networks.build("lenet", classes=3),
    "convnet": lambda: networks.build("convnet", classes=3),
    "small": small,
    "normalised": normalised,
}


def recipe(**changes: Any) -> Recipe:
    return Recipe(name="t", network="t", batch_size=BATCH, lr=0.02).but(**changes)


def build(name: str | Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(2)
    return NETWORKS[name]() if isinstance(name, str) else name()


def eager(net: nn.Module, r: Recipe, data: Dataset, parts: int | None = None) -> Eager:
    return Eager(Job(net, r, data.train, data.test, CPU, parts))


def recorded(
    net: nn.Module, r: Recipe, data: Dataset, recorder: Recorder, parts: int | None = None
) -> Cuda:
    engine = Cuda(Job(net, r, data.train, data.test, CPU, parts))
    engine._graphs = recorder
    return engine


def train(engine: Eager, data: Dataset, epochs: range, chunk: int = 100) -> list[Metrics]:
    """Train epoch by epoch, some steps at a time, and test; all sums."""
    device, tallies = engine._device, []
    for number in epochs:
        order = epoch_order(0, number, len(data.train)).to(device)
        epoch, tally = Epoch(number, order, engine.recipe.batch_size), Metrics()
        for first in range(0, epoch.steps, chunk):
            tally, times = engine.train(epoch, first, min(first + chunk, epoch.steps), tally)
            assert times.compute > 0
        tallies += [tally, engine.evaluate()]
    return tallies
