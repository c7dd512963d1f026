"""DenseNet, as Dive into Deep Learning has it: four dense blocks of four layers, at 96×96.

After Huang, Liu, van der Maaten and Weinberger, "Densely connected convolutional networks", 2016.
In a dense block every layer gets what all layers before it found, joined along the channels.
758,226 parameters for one channel and ten classes.

    stage                                              output, for 1×96×96
    0  Conv2d 7×7, stride 2, pad 3; BatchNorm2d; ReLU;
       MaxPool2d 3, stride 2, pad 1                      64×24×24
    1  dense block of 4 layers, 32 channels each        192×24×24
    2  transition: BatchNorm2d; ReLU; Conv2d 1×1;
       AvgPool2d 2                                       96×12×12
    3  dense block                                      224×12×12
    4  transition                                       112×6×6
    5  dense block                                      240×6×6
    6  transition                                       120×3×3
    7  dense block                                      248×3×3
    8  BatchNorm2d, 9 ReLU, 10 mean, 11 Flatten         248
    12 Linear                                            10
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: The channels that each layer of a dense block adds, and the layers of each block.
GROWTH, LAYERS = 32, (4, 4, 4, 4)


class DenseBlock(nn.Module):
    """Layers that each get all that came before.

    Args:
        layers: how many.
        channels: of the images that come in.
        growth: channels that each layer adds.
    """

    def __init__(self, layers: int, channels: int, growth: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(dense_layer(channels + growth * number, growth) for number in range(layers))
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, channels + layers · growth, H, W]``."""
        for layer in self.net:
            x = torch.cat((x, layer(x)), dim=1)
        return x


def dense_layer(channels: int, growth: int) -> nn.Sequential:
    """Batch norm, ReLU, and a 3×3 convolution."""
    return nn.Sequential(
        nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, growth, kernel_size=3, padding=1)
    )


def transition(channels: int, width: int) -> nn.Sequential:
    """Fewer channels, and sides half as long."""
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, width, kernel_size=1),
        nn.AvgPool2d(kernel_size=2, stride=2),
    )


def densenet(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Build DenseNet, taking ``[N, C, 96, 96]`` to class scores ``[N, classes]``."""
    width = 64
    stages: list[nn.Module] = [
        nn.Sequential(
            nn.Conv2d(channels, width, kernel_size=7, stride=2, padding=3),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
    ]
    for number, layers in enumerate(LAYERS):
        stages.append(DenseBlock(layers, width, GROWTH))
        width += layers * GROWTH
        if number < len(LAYERS) - 1:
            stages.append(transition(width, width // 2))
            width //= 2
    return nn.Sequential(
        *stages,
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(width, classes),
    )
