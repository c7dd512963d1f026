"""A network that runs out of memory where it is told to, and what the tests do with it."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.interface import Epoch
from fivebyfive.recipes import Recipe

BATCH = 16
PLENTY = 10**6

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


def no_room(*_: object) -> NoReturn:
    """Stands in for a call that finds no memory."""
    raise ERRORS[1]


class Guard(nn.Module):
    """Lets everything through, but raises where it is told to when more than ``most`` images come.

    Attributes:
        most: how many images there is memory for.
        place: ``forward`` or ``backward``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = PLENTY
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


def guard_of(engine: Eager) -> Guard:
    """The guard in the engine's network."""
    return next(module for module in engine.network.modules() if isinstance(module, Guard))


def network() -> Small:
    torch.manual_seed(3)
    return Small()


def recipe(**changes: object) -> Recipe:
    return Recipe(name="t", network="t", batch_size=BATCH, lr=0.01).but(**changes)


def epoch(data: Dataset) -> Epoch:
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(1))
    return Epoch(1, order, BATCH)
