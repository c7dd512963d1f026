"""GoogLeNet, as Dive into Deep Learning has it: at 96×96, without the two helping outputs.

After Szegedy and others, "Going deeper with convolutions", 2014. An inception block looks at the
same images through windows of several sizes at once and joins what it finds. 5,977,530 parameters
for one channel and ten classes.

    stage                                              output, for 1×96×96
    0  Conv2d 7×7, stride 2, pad 3; MaxPool2d 3, s. 2    64×24×24
    1  Conv2d 1×1; Conv2d 3×3, pad 1; MaxPool2d         192×12×12
    2  2 inception blocks; MaxPool2d                    480×6×6
    3  5 inception blocks; MaxPool2d                    832×3×3
    4  2 inception blocks; mean; Flatten               1024
    5  Linear                                            10
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn


class Inception(nn.Module):
    """Four paths side by side: 1×1; 1×1 and 3×3; 1×1 and 5×5; a pooling and 1×1.

    Args:
        channels: of the images that come in.
        one: of the first path.
        three: of the second path's two convolutions.
        five: of the third path's.
        pooled: of the fourth path.
    """

    def __init__(
        self, channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int
    ) -> None:
        super().__init__()
        self.p1_1 = nn.Conv2d(channels, one, kernel_size=1)
        self.p2_1 = nn.Conv2d(channels, three[0], kernel_size=1)
        self.p2_2 = nn.Conv2d(*three, kernel_size=3, padding=1)
        self.p3_1 = nn.Conv2d(channels, five[0], kernel_size=1)
        self.p3_2 = nn.Conv2d(*five, kernel_size=5, padding=2)
        self.p4_1 = nn.MaxPool2d(kernel_size=3, stride=1, padding=1)
        self.p4_2 = nn.Conv2d(channels, pooled, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """The paths' outputs, joined along the channels; height and width stay."""
        p1 = F.relu(self.p1_1(x))
        p2 = F.relu(self.p2_2(F.relu(self.p2_1(x))))
        p3 = F.relu(self.p3_2(F.relu(self.p3_1(x))))
        p4 = F.relu(self.p4_2(self.p4_1(x)))
        return torch.cat((p1, p2, p3, p4), dim=1)


def googlenet(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Build GoogLeNet, taking ``[N, C, 96, 96]`` to class scores ``[N, classes]``."""

    def halve() -> nn.MaxPool2d:
        return nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    return nn.Sequential(
        nn.Sequential(
            nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3), nn.ReLU(), halve()
        ),
        nn.Sequential(
            nn.Conv2d(64, 64, kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(64, 192, kernel_size=3, padding=1),
            nn.ReLU(),
            halve(),
        ),
        nn.Sequential(
            Inception(192, 64, (96, 128), (16, 32), 32),
            Inception(256, 128, (128, 192), (32, 96), 64),
            halve(),
        ),
        nn.Sequential(
            Inception(480, 192, (96, 208), (16, 48), 64),
            Inception(512, 160, (112, 224), (24, 64), 64),
            Inception(512, 128, (128, 256), (24, 64), 64),
            Inception(512, 112, (144, 288), (32, 64), 64),
            Inception(528, 256, (160, 320), (32, 128), 128),
            halve(),
        ),
        nn.Sequential(
            Inception(832, 256, (160, 320), (32, 128), 128),
            Inception(832, 384, (192, 384), (48, 128), 128),
            nn.AdaptiveAvgPool2d((1, 1)),
            nn.Flatten(),
        ),
        nn.Linear(1024, classes),
    )
