"""Network in network, as Dive into Deep Learning has it.

After Lin, Chen and Yan, "Network in network", 2013. Two 1×1 convolutions after each other one are a
small linear network at every pixel, and the mean over the last images takes the place of large
linear layers: 1,992,166 parameters for one channel and ten classes.

    layer                                       output, for 1×224×224
    0  block of 11×11, stride 4                   96×54×54
    1  MaxPool2d 3, stride 2                      96×26×26
    2  block of 5×5, pad 2                       256×26×26
    3  MaxPool2d 3, stride 2                     256×12×12
    4  block of 3×3, pad 1                       384×12×12
    5  MaxPool2d 3, stride 2                     384×5×5
    6  Dropout                                   384×5×5
    7  block of 3×3, pad 1                        10×5×5
    8  AdaptiveAvgPool2d, 9 Flatten               10
"""

from __future__ import annotations

from torch import nn


def nin(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Build NiN, taking ``[N, C, 224, 224]`` to class scores ``[N, classes]``."""
    return nn.Sequential(
        nin_block(channels, 96, kernel_size=11, stride=4, padding=0),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nin_block(96, 256, kernel_size=5, stride=1, padding=2),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nin_block(256, 384, kernel_size=3, stride=1, padding=1),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Dropout(0.5),
        nin_block(384, classes, kernel_size=3, stride=1, padding=1),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
    )


def nin_block(
    channels: int, width: int, kernel_size: int, stride: int, padding: int
) -> nn.Sequential:
    """A convolution and two of 1×1, each followed by a ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size, stride, padding),
        nn.ReLU(),
        nn.Conv2d(width, width, kernel_size=1),
        nn.ReLU(),
        nn.Conv2d(width, width, kernel_size=1),
        nn.ReLU(),
    )
