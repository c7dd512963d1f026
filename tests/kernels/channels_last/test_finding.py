"""What of a forward is computed as one operation, and what must not be."""

from collections import Counter

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from fivebyfive import networks
from fivebyfive.kernels.accelerate import Fused
from fivebyfive.kernels.analysis import analyse
from fivebyfive.kernels.fusing import fuse
from fivebyfive.networks.resnet18 import Residual


def modules(network: nn.Module, x: torch.Tensor) -> Counter[str]:
    """The kinds of module that a network's forward is run by, with how many fuse a ReLU."""
    forward = Fused(network).view.look(x)
    assert forward is not None
    fused = fuse(analyse(forward))
    assert fused is not None
    kinds = [
        type(m).__name__ + ("+relu" if getattr(m, "relu", False) else "")
        for name, m in fused.named_children()
        if name.startswith("kernels_")
    ]
    return Counter(kinds)


def test_a_residual_block_is_four_operations() -> None:
    found = modules(Residual(16, 16), torch.rand(2, 16, 8, 8))
    assert found == {"Convolution": 2, "Normalisation+relu": 2}


def test_the_zoo() -> None:
    resnet = modules(networks.build("resnet18"), torch.rand(2, 1, 96, 96))
    # A stem, eight blocks of two, and three shortcuts; each batch norm has a ReLU after it.
    assert resnet == {"Convolution": 20, "Normalisation+relu": 17, "MaxPool": 1, "Linear": 1}
    vgg = modules(networks.build("vgg"), torch.rand(2, 1, 224, 224))
    assert vgg == {"Convolution+relu": 8, "MaxPool": 5, "Linear": 3}


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)


def test_a_value_that_two_read_isnt_hidden_in_an_operation() -> None:
    class Twice(Own):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return F.relu(y) + y

    assert modules(Twice(), torch.rand(2, 16, 8, 8)) == {"Convolution": 1}


def test_what_is_changed_in_between_isnt_read_later() -> None:
    class Changing(Own):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(self.conv(x))
            self.norm.running_mean.mul_(0.5)  # type: ignore[operator, union-attr]
            return F.relu(y)

    assert modules(Changing(), torch.rand(2, 16, 8, 8)) == {"Convolution": 1, "Normalisation": 1}


def test_what_is_added_in_place_to_something_else_stays() -> None:
    class Adding(Own):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            x += self.norm(x)
            return x

    assert modules(Adding(), torch.rand(2, 16, 8, 8)) == {"Convolution": 1, "Normalisation": 1}
