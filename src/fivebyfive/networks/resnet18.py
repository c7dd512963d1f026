"""ResNet-18, as Dive into Deep Learning has it, at 96×96.

After He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2015. A residual block
adds what its layers find to what came in, so that gradients have a way past them. 11,178,378
parameters for one channel and ten classes.

    stage                                              output, for 1×96×96
    0  Conv2d 7×7, stride 2, pad 3; BatchNorm2d; ReLU;
       MaxPool2d 3, stride 2, pad 1                      64×24×24
    1  2 residual blocks                                 64×24×24
    2  2 residual blocks, the first halves the sides    128×12×12
    3  2 residual blocks, likewise                      256×6×6
    4  2 residual blocks, likewise                      512×3×3
    5  AdaptiveAvgPool2d, 6 Flatten                     512
    7  Linear                                            10
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn


class Residual(nn.Module):
    """Two 3×3 convolutions with batch norm, and what came in added before the last ReLU.

    Args:
        channels: of the images that come in.
        width: of those that go out.
        stride: of the first convolution. Where it isn't 1, or the channels change, a 1×1
            convolution brings what came in to the same shape.
    """

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, kernel_size=3, padding=1, stride=stride)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1)
        same = channels == width and stride == 1
        self.conv3 = None if same else nn.Conv2d(channels, width, kernel_size=1, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, width, H / stride, W / stride]``."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.conv3 is not None:
            x = self.conv3(x)
        return F.relu(y + x)


def resnet18(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Build ResNet-18, taking ``[N, C, 96, 96]`` to class scores ``[N, classes]``."""
    return nn.Sequential(
        nn.Sequential(
            nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        ),
        nn.Sequential(Residual(64, 64), Residual(64, 64)),
        nn.Sequential(Residual(64, 128, stride=2), Residual(128, 128)),
        nn.Sequential(Residual(128, 256, stride=2), Residual(256, 256)),
        nn.Sequential(Residual(256, 512, stride=2), Residual(512, 512)),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(512, classes),
    )
