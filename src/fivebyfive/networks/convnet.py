"""The MNIST ConvNet of a widely copied PyTorch tutorial: two convolutions, two linear layers.

1,007,590 parameters for one channel and ten classes. It ends in log-probabilities, so it trains
with the negative log-likelihood (`nll`).

    layer                 output, for 1×28×28
    conv1  Conv2d 5×5     10×24×24
    relu1  ReLU           10×24×24
    pool   MaxPool2d 2    10×12×12
    conv2  Conv2d 3×3     20×10×10
    relu2  ReLU           20×10×10
    flatten               2000
    fc1    Linear         500
    relu3  ReLU           500
    fc2    Linear         10
    scores LogSoftmax     10
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


class ConvNet(nn.Sequential):
    """Takes ``[N, C, 28, 28]`` to log-probabilities ``[N, classes]``."""

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(channels, 10, 5),
                relu1=nn.ReLU(),
                pool=nn.MaxPool2d(2),
                conv2=nn.Conv2d(10, 20, 3),
                relu2=nn.ReLU(),
                flatten=nn.Flatten(),
                fc1=nn.Linear(20 * 10 * 10, 500),
                relu3=nn.ReLU(),
                fc2=nn.Linear(500, classes),
                scores=nn.LogSoftmax(dim=1),
            )
        )


def convnet(channels: int = 1, classes: int = 10) -> ConvNet:
    """Build the ConvNet; see the table at the top of this file."""
    return ConvNet(channels, classes)
