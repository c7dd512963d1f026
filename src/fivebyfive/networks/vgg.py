"""VGG-11, as Dive into Deep Learning trains it: with a quarter of the channels.

After Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition",
2014. Blocks of 3×3 convolutions, each followed by a ReLU, end with a pooling that halves the sides.
Its 43,093,322 parameters, for one channel and ten classes, are nearly all in the linear layers.

    block                                output, for 1×224×224
    0   1 × Conv2d 3×3, pad 1; MaxPool2d 2   16×112×112
    1   1 × Conv2d 3×3, pad 1; MaxPool2d 2   32×56×56
    2   2 × Conv2d 3×3, pad 1; MaxPool2d 2   64×28×28
    3   2 × Conv2d 3×3, pad 1; MaxPool2d 2   128×14×14
    4   2 × Conv2d 3×3, pad 1; MaxPool2d 2   128×7×7
    5   Flatten                              6272
    6   Linear, 7 ReLU, 8 Dropout            4096
    9   Linear, 10 ReLU, 11 Dropout          4096
    12  Linear                               10
"""

from __future__ import annotations

from torch import nn

#: Each block's convolutions, and their channels.
BLOCKS = ((1, 16), (1, 32), (2, 64), (2, 128), (2, 128))


def vgg(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Build the small VGG-11, taking ``[N, C, 224, 224]`` to class scores ``[N, classes]``."""
    blocks = []
    for count, width in BLOCKS:
        blocks.append(vgg_block(count, channels, width))
        channels = width
    return nn.Sequential(
        *blocks,
        nn.Flatten(),
        nn.Linear(channels * 7 * 7, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, classes),
    )


def vgg_block(count: int, channels: int, width: int) -> nn.Sequential:
    """``count`` convolutions to ``width`` channels, and a pooling."""
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.MaxPool2d(kernel_size=2, stride=2))
