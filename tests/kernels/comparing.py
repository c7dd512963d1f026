"""What a network and its accelerated copy are compared by, and small networks to compare."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fivebyfive.kernels.accelerate import accelerate

from .drawing import distance, gradients


def block(*after: nn.Module, **options: Any) -> nn.Sequential:
    """A convolution, and what comes after it, for images of 2 channels."""
    return nn.Sequential(nn.Conv2d(2, 3, 3, **options), *after)


class Network(nn.Module):
    """A convolution and a head, with something of the user's own in between."""

    def __init__(self, between: Callable[[Network, Tensor], Tensor]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(27, 4)
        self.between, self.scale, self.calls = between, 1.0, 0
        self.seen: list[Tensor] = []
        self.by_name: dict[str, Tensor] = {}
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.between(self, x))


def images(count: int = 3) -> Tensor:
    """Images for a :class:`Network`."""
    return torch.rand(count, 2, 5, 5, generator=torch.Generator().manual_seed(count))


def accelerated(network: nn.Module) -> nn.Module:
    """An accelerated copy."""
    return accelerate(copy.deepcopy(network))


def assert_same_values(network: nn.Module, x: Tensor, tolerance: float = 1e-5) -> None:
    """An accelerated copy gives what the network gives in float64, forward and backward."""
    out_grad = torch.randn(network(x).shape)
    found = gradients(network, x, out_grad, torch.float32, accelerated=True)
    expected = gradients(network, x, out_grad, torch.float64)
    assert all(distance(a, b) < tolerance for a, b in zip(found, expected, strict=True))


def assert_same_behaviour(network: nn.Module, *inputs: Any, **named: Any) -> None:
    """A call does what the forward does with the same random numbers, whatever is put in."""
    accelerate(network)
    found = []
    for call in (network, network.forward):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        network.zero_grad()
        out = call(*inputs, **named)
        out.float().square().sum().backward()
        found.append([out.detach(), *(p.grad for p in network.parameters())])
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
