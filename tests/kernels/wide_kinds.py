"""Kinds of network with as many channels as are computed layer by layer, for the same images."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .kinds import kind, sequential

CHANNELS = 16


def wide(kernel: int = 3, into: int = CHANNELS, **options: int) -> nn.Conv2d:
    return nn.Conv2d(into, CHANNELS, kernel, padding=kernel // 2, **options)


def first() -> nn.Conv2d:
    return nn.Conv2d(2, CHANNELS, 3, padding=1)


def last(side: int = 6) -> nn.Linear:
    return nn.Linear(CHANNELS * side**2, 4)


sequential(
    "WideChain", first, nn.ReLU, wide, lambda: nn.ReLU(inplace=True), lambda: nn.MaxPool2d(2),
    lambda: wide(5), nn.Sigmoid, nn.Flatten, lambda: last(3),
)  # fmt: skip
sequential(
    "WideNormalised", first, lambda: nn.BatchNorm2d(CHANNELS), nn.ReLU, wide,
    lambda: nn.BatchNorm2d(CHANNELS), nn.Dropout, lambda: nn.AvgPool2d(2), nn.Flatten,
    lambda: last(3),
)  # fmt: skip
sequential(
    "WideStrided", first, nn.Tanh, lambda: wide(stride=2), nn.Tanh, lambda: wide(1),
    lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten, lambda: last(1),
)  # fmt: skip
sequential("WideImages", first, nn.Tanh, wide, nn.Dropout, wide)


class WideOwn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b, self.fc = first(), wide(), wide(), last()
        self.norm, self.other = nn.BatchNorm2d(CHANNELS), nn.BatchNorm2d(CHANNELS)


@kind
class WideResidual(WideOwn):
    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.first(x))
        y = F.relu(self.norm(self.a(x)))
        y = self.other(self.b(y))
        y += x
        return self.fc(F.relu(y).flatten(1))  # type: ignore[no-any-return]


@kind
class WideDense(WideOwn):
    """Joined, and viewed: the layout shows."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = torch.cat([self.a(F.relu(self.norm(x))), self.b(x)], 1)
        return self.fc(x.chunk(2, 1)[0].contiguous().view(len(x), -1))  # type: ignore[no-any-return]


@kind
class WideViewed(WideOwn):
    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(torch.tanh(self.a(self.first(x))), 0.5, self.training)
        return self.fc(x.view(len(x), -1))  # type: ignore[no-any-return]


@kind
class WideTwice(WideOwn):
    """Layers that are used twice, the statistics of one among them."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.a(self.first(x)))
        y = self.norm(self.a(x))
        return self.fc(F.relu(x + y).flatten(1))  # type: ignore[no-any-return]


@kind
class WideInPlace(WideOwn):
    """What a layer has read, or is going to give, is changed in between."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y, z = self.a(x), self.norm(x)
        x = x.mul_(2) if not torch.is_grad_enabled() else x * 2
        return self.fc((F.relu(y) + F.relu(z) + x).flatten(1))  # type: ignore[no-any-return]


@kind
class WideWeights(WideOwn):
    """A weight that is computed, and statistics that are changed before the layer's ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(F.conv2d(self.first(x), self.a.weight * 2, None, 1, 1))
        self.norm.running_mean.mul_(0.5)  # type: ignore[operator, union-attr]
        return self.fc(F.relu(x).flatten(1))  # type: ignore[no-any-return]
