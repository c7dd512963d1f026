"""AlexNet, as Dive into Deep Learning has it: one tower, one channel, images of 224×224.

After Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
networks", 2012, without the two-GPU split and the response normalisation. 46,764,746 parameters for
one channel and ten classes.

    layer                            output, for 1×224×224
    0  Conv2d 11×11, stride 4, pad 1   96×54×54
    1  ReLU                            96×54×54
    2  MaxPool2d 3, stride 2           96×26×26
    3  Conv2d 5×5, pad 2              256×26×26
    4  ReLU                           256×26×26
    5  MaxPool2d 3, stride 2          256×12×12
    6  Conv2d 3×3, pad 1              384×12×12
    7  ReLU                           384×12×12
    8  Conv2d 3×3, pad 1              384×12×12
    9  ReLU                           384×12×12
    10 Conv2d 3×3, pad 1              256×12×12
    11 ReLU                           256×12×12
    12 MaxPool2d 3, stride 2          256×5×5
    13 Flatten                        6400
    14 Linear, 15 ReLU, 16 Dropout    4096
    17 Linear, 18 ReLU, 19 Dropout    4096
    20 Linear                         10
"""

from __future__ import annotations

from torch import nn


def alexnet(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Build AlexNet, taking ``[N, C, 224, 224]`` to class scores (logits) ``[N, classes]``."""
    return nn.Sequential(
        nn.Conv2d(channels, 96, kernel_size=11, stride=4, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(96, 256, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(256, 384, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 384, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Flatten(),
        nn.Linear(256 * 5 * 5, 4096),
        nn.ReLU(),
        nn.Dropout(p=0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(p=0.5),
        nn.Linear(4096, classes),
    )
