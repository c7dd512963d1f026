"""Forty kinds of network, small, for images of 2 channels and 6×6; what people write, and traps."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

SCALE = 1.0
SEEN: list[Any] = []


def body(*more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Sigmoid(), nn.AvgPool2d(2), *more)


def head() -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 4)]


class Own(nn.Module):
    """A body, a head, and what is kept beside them."""

    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = body(), nn.Sequential(*head())
        self.cfg, self.items, self.calls = {"scale": 1.0}, [1.0, 2.0], 0
        self.scale = 1.0
        self.register_buffer("steps", torch.zeros(()))

    def between(self, x: Tensor) -> Any:
        return x

    def forward(self, x: Tensor) -> Any:
        return self.head(self.between(self.body(x)))


KINDS: dict[str, Callable[[], nn.Module]] = {}


def kind(made: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    KINDS[made.__name__] = made
    return made


def between(name: str, what: Callable[[Any, Tensor], Any]) -> None:
    KINDS[name] = type(name, (Own,), {"between": what, "__module__": __name__})
    globals()[name] = KINDS[name]  # where pickle looks


def sequential(name: str, *layers: Callable[[], nn.Module]) -> None:
    KINDS[name] = lambda: nn.Sequential(*(layer() for layer in layers))


sequential("Plain", body, *[lambda i=i: head()[i] for i in range(4)])
sequential(
    "Rectified",
    lambda: nn.Conv2d(2, 3, 3),
    nn.ReLU,
    lambda: nn.MaxPool2d(2),
    nn.Flatten,
    lambda: nn.Linear(12, 4),
)
sequential(
    "Inplace",
    lambda: nn.Conv2d(2, 3, 3),
    lambda: nn.ReLU(inplace=True),
    nn.Flatten,
    lambda: nn.Linear(48, 4),
)
sequential(
    "Normalised",
    lambda: nn.Conv2d(2, 3, 3),
    lambda: nn.BatchNorm2d(3),
    nn.Tanh,
    lambda: nn.Conv2d(3, 2, 3),
    nn.Sigmoid,
    nn.Flatten,
    lambda: nn.Linear(8, 4),
)
sequential("Dropped", body, nn.Dropout, *[lambda i=i: head()[i] for i in range(4)])
sequential(
    "Strided",
    lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1),
    nn.Tanh,
    lambda: nn.Conv2d(3, 3, 2),
    nn.Tanh,
    nn.Flatten,
    lambda: nn.Linear(12, 4),
)
sequential(
    "Grouped",
    lambda: nn.Conv2d(2, 4, 3, groups=2),
    nn.GELU,
    lambda: nn.Conv2d(4, 3, 3),
    nn.Flatten,
    lambda: nn.Linear(12, 4),
)
sequential(
    "Reflected",
    lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
    nn.Tanh,
    lambda: nn.Conv2d(3, 3, 5),
    nn.Flatten,
    lambda: nn.Linear(12, 4),
)
sequential(
    "Unbiased",
    lambda: nn.Conv2d(2, 3, 3, bias=False),
    nn.Tanh,
    nn.Flatten,
    lambda: nn.Linear(48, 4, bias=False),
)
sequential("Unflat", lambda: nn.Conv2d(2, 3, 3), nn.Tanh, lambda: nn.Linear(4, 4))
sequential("Ending", body, *[lambda i=i: head()[i] for i in range(4)], lambda: nn.LogSoftmax(1))
sequential("Dense", nn.Flatten, lambda: nn.Linear(72, 6), nn.Tanh, lambda: nn.Linear(6, 4))
sequential(
    "Spectral",
    lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 3, 3)),
    nn.Tanh,
    nn.Flatten,
    lambda: nn.Linear(48, 4),
)
sequential(
    "Nested",
    lambda: nn.Sequential(body(), nn.Sequential(nn.Flatten())),
    lambda: nn.Sequential(OrderedDict(fc=nn.Linear(12, 4))),
)


@kind
def Tied() -> nn.Module:
    linear = nn.Linear(12, 12)
    return nn.Sequential(body(), nn.Flatten(), linear, nn.Tanh(), linear, nn.Tanh(),
                         nn.Linear(12, 4))  # fmt: skip


@kind
def Holding() -> nn.Module:
    return nn.Sequential(body(), Own().head)


@kind
def Traced() -> nn.Module:
    return fx.symbolic_trace(nn.Sequential(body(), *head()))


class Named(nn.Sequential):
    """A container with a name of the user's."""


class Scaled(nn.Sequential):
    scale = 1.0

    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * self.scale


KINDS["Named"] = lambda: Named(body(), *head())
KINDS["Scaled"] = lambda: Scaled(body(), *head())

between("Simple", lambda self, x: x)
between("FromDict", lambda self, x: x * self.cfg["scale"])
between("FromList", lambda self, x: x * self.items[0] + self.items[-1])
between("FromAttribute", lambda self, x: x * self.scale)
between("FromClass", lambda self, x: x * type(self).factor + self.factor)
between("FromGlobal", lambda self, x: x * SCALE)
between("Deciding", lambda self, x: x if x.sum() > 6 else -x)
between("ByMode", lambda self, x: x * 2 if self.training else x)
between("ByShape", lambda self, x: x * len(x) if len(x) > 2 else x)
between("Asking", lambda self, x: x * 2 if isinstance(x, nn.Parameter) else x)
between("Buffered", lambda self, x: x + self.steps.add_(1))
between("Residual", lambda self, x: torch.tanh(x) + x)
between("Noisy", lambda self, x: x + torch.rand(()))
between("NoisyByPython", lambda self, x: x * (3 if random.random() < 0.5 else 1))
between("NoisyByNumPy", lambda self, x: x * float(np.random.rand()))
between("FunctionalDropout", lambda self, x: F.dropout(x, 0.5, self.training))
between("Checkpointed", lambda self, x: checkpoint(torch.tanh, x, use_reentrant=False))
between("Detached", lambda self, x: x.detach() + x)


def keep(self: Any, x: Tensor) -> Tensor:
    self.calls += 1
    self.last = x.detach()
    return x


def append(self: Any, x: Tensor) -> Tensor:
    SEEN.append(tuple(x.shape))
    return x


def without_gradients(self: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        scale = x.mean()
    return x * scale


def in_bfloat16(self: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return (x @ x.transpose(2, 3)).float()


def make_a_buffer(self: Any, x: Tensor) -> Tensor:
    if not hasattr(self, "made"):
        self.register_buffer("made", torch.full((), 2.0))
    return x * self.made


def with_its_own_weights(self: Any, x: Tensor) -> Tensor:
    return F.linear(x, self.head[3].weight.detach()[:2, :2] + 1)


for name, what in [
    ("Counting", keep), ("Appending", append), ("WithoutGradients", without_gradients),
    ("Autocast", in_bfloat16), ("Making", make_a_buffer), ("OwnWeights", with_its_own_weights),
]:  # fmt: skip
    between(name, what)


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_: Any, grad: Tensor) -> Tensor:
        return -grad


between("ReversedGradient", lambda self, x: Reversed.apply(x))


@kind
class Several(Own):
    def forward(self, x: Tensor) -> Any:
        x = self.body(x)
        return self.head(x), x


@kind
class Optional(Own):
    def forward(self, x: Tensor, scale: Tensor | None = None, *, twice: bool = False) -> Any:
        x = super().forward(x)
        x = x if scale is None else x * scale
        return x * 2 if twice else x


@kind
class Functions(nn.Module):
    """Parameters of its own, and functions."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(3, 2, 3, 3)), nn.Parameter(torch.zeros(3))
        self.fc = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(torch.tanh(F.conv2d(x, self.weight, self.bias)), 2)
        return self.fc(x.view(x.size(0), -1))  # type: ignore[no-any-return]


@kind
class Looping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(2, 2, 3, padding=1) for _ in range(3)])
        self.fc, self.times = nn.Linear(72, 4), 1

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            for layer in self.layers:
                x = torch.sigmoid(layer(x))
        return self.fc(x.flatten(1))  # type: ignore[no-any-return]


@kind
class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 3, 1)
        self.fc = nn.Linear(5 * 9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([torch.tanh(self.a(x)), torch.sigmoid(self.b(x))], 1)
        return self.fc(torch.flatten(F.max_pool2d(x, 2), 1))  # type: ignore[no-any-return]
