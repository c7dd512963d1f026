"""The MNIST ConvNet of a widely copied PyTorch tutorial: two convolutions, two linear layers.

1,007,590 parameters for one channel and ten classes. It ends in log-probabilities, so it trains
with the negative log-likelihood (`nll`).

    step                  output, for 1×28×28
    conv1  5×5            10×24×24
    relu                  10×24×24
    max_pool2d 2          10×12×12
    conv2  3×3            20×10×10
    relu                  20×10×10
    view                  2000
    fc1                   500
    relu                  500
    fc2                   10
    log_softmax           10
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn


class ConvNet(nn.Module):
    """Takes ``[N, C, 28, 28]`` to log-probabilities ``[N, classes]``."""

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 3)
        self.fc1 = nn.Linear(20 * 10 * 10, 500)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities of the classes for a batch."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2, 2)
        x = F.relu(self.conv2(x))
        x = x.view(x.size(0), -1)
        x = F.relu(self.fc1(x))
        return F.log_softmax(self.fc2(x), dim=1)


def convnet(channels: int = 1, classes: int = 10) -> ConvNet:
    """Build the ConvNet; see the table at the top of this file."""
    return ConvNet(channels, classes)
