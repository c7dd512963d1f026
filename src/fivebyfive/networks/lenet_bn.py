"""LeNet with batch normalisation, as Dive into Deep Learning has it with PyTorch's layers.

After Ioffe and Szegedy, "Batch normalization: accelerating deep network training", 2015. Between
each layer and its sigmoid, every channel is brought to mean 0 and deviation 1 over the batch, which
lets it learn at a rate of 1. 44,878 parameters for one channel and ten classes; the convolutions
aren't padded, so that fewer values reach the linear layers than LeNet's.

    layer                               output, for 1×28×28
    0  Conv2d 5×5, 1 BatchNorm2d          6×24×24
    2  Sigmoid, 3 AvgPool2d 2             6×12×12
    4  Conv2d 5×5, 5 BatchNorm2d         16×8×8
    6  Sigmoid, 7 AvgPool2d 2            16×4×4
    8  Flatten                          256
    9  Linear, 10 BatchNorm1d, 11 Sigmoid   120
    12 Linear, 13 BatchNorm1d, 14 Sigmoid    84
    15 Linear                                10
"""

from __future__ import annotations

from torch import nn


def lenet_bn(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Build LeNet with batch norm, taking ``[N, C, 28, 28]`` to class scores ``[N, classes]``."""
    return nn.Sequential(
        nn.Conv2d(channels, 6, kernel_size=5),
        nn.BatchNorm2d(6),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.BatchNorm2d(16),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Flatten(),
        nn.Linear(256, 120),
        nn.BatchNorm1d(120),
        nn.Sigmoid(),
        nn.Linear(120, 84),
        nn.BatchNorm1d(84),
        nn.Sigmoid(),
        nn.Linear(84, classes),
    )
