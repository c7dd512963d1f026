"""LeNet, as Dive into Deep Learning has it: sigmoids and average pooling.

After LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
1998, with a plain softmax instead of the Gaussian connections at the end. 61,706 parameters for one
channel and ten classes.

    layer                 output, for 1×28×28
    0  Conv2d 5×5, pad 2   6×28×28
    1  Sigmoid             6×28×28
    2  AvgPool2d 2         6×14×14
    3  Conv2d 5×5         16×10×10
    4  Sigmoid            16×10×10
    5  AvgPool2d 2        16×5×5
    6  Flatten            400
    7  Linear             120
    8  Sigmoid            120
    9  Linear              84
    10 Sigmoid             84
    11 Linear              10
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

SIDE = 28


class LeNet(nn.Sequential):
    """The twelve layers, taking ``[N, C, 28, 28]`` or flat ``[N, C·784]`` to ``[N, classes]``."""

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__(
            nn.Conv2d(channels, 6, kernel_size=5, padding=2),
            nn.Sigmoid(),
            nn.AvgPool2d(kernel_size=2, stride=2),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.Sigmoid(),
            nn.AvgPool2d(kernel_size=2, stride=2),
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            nn.Sigmoid(),
            nn.Linear(120, 84),
            nn.Sigmoid(),
            nn.Linear(84, classes),
        )
        self.channels = channels

    def __getitem__(self, index: Any) -> Any:
        """A layer, or a plain ``nn.Sequential`` of some: ``net[:3]`` ends after the first block."""
        layers = list(self.children())[index]
        return nn.Sequential(*layers) if isinstance(index, slice) else layers

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (logits) for a batch."""
        x = as_images(x, self.channels)
        for layer in self:
            x = layer(x)
        return x


def as_images(x: Tensor, channels: int) -> Tensor:
    """Give flat images ``[N, C·784]`` their shape ``[N, C, 28, 28]`` back; leave others alone."""
    return x.view(-1, channels, SIDE, SIDE) if x.dim() == 2 else x


# One step for whoever traces the network with torch.fx, which can't follow the `if`.
fx.wrap("as_images")


def lenet(channels: int = 1, classes: int = 10) -> LeNet:
    """Build LeNet; see the table at the top of this file."""
    return LeNet(channels, classes)
