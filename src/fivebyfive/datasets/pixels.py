"""From stored bytes to the numbers a network sees, a batch at a time on the images' own device.

Without resizing: what torchvision's ``ToTensor`` and ``Normalize`` give, bit for bit. With it: the
pixels of ``PIL.Image.resize((side, side), BILINEAR)``, which the book uses. That differs from
PyTorch's ``interpolate``: Pillow widens its triangle filter when shrinking, works on bytes, and
rounds to bytes after the horizontal and again after the vertical pass.
Source: Pillow, src/libImaging/Resample.c.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..lib.errors import DataError

#: Pillow keeps its weights as whole multiples of 2 to the minus 22.
_PRECISION = 1 << 22


@dataclass(frozen=True)
class Pixels:
    """Scale to 0..1, subtract ``mean``, divide by ``std``; before that, resize if asked to.

    ``resize`` is the side of the square images that come out, in pixels.
    """

    resize: int | None = None
    mean: float = 0.0
    std: float = 1.0

    def __call__(self, images: Tensor) -> Tensor:
        """Convert ``uint8 [N, C, H, W]`` to ``float32 [N, C, h, w]`` on the same device.

        Raises:
            DataError: images to be resized aren't square.
        """
        _, height, width = self.shape(tuple(images.shape[1:]))
        x = images.float()
        if (height, width) != images.shape[2:]:
            x = _resized(x, height)
        x.div_(255)
        if self.mean != 0:
            x.sub_(self.mean)
        if self.std != 1:
            x.div_(self.std)
        return x

    def shape(self, image: tuple[int, ...]) -> tuple[int, int, int]:
        """The ``(C, h, w)`` that an image of ``(C, H, W)`` comes out as.

        Raises:
            DataError: images to be resized aren't square.
        """
        channels, height, width = image
        if self.resize is None:
            return channels, height, width
        if height != width:
            raise DataError(
                f"images of {height}×{width} can't be resized to {self.resize}×{self.resize} "
                "without squeezing them; expected square ones. Make them square first."
            )
        return channels, self.resize, self.resize


def _resized(x: Tensor, side: int) -> Tensor:
    """Whole values 0..255 in float32 ``[N, C, S, S]``, to the same in ``[N, C, side, side]``."""
    weights = _weights(x.shape[-1], side, x.device)
    # In lower precision the pixels would come out different.
    with torch.autocast(x.device.type, enabled=False):
        rows = (x.to(weights.dtype) @ weights.T).add_(0.5).floor_()
        return (weights @ rows).add_(0.5).floor_().float()


@functools.cache  # a recorded step on a card reads it where it is
def _weights(size: int, side: int, device: torch.device) -> Tensor:
    """The matrix ``[side, size]`` that resizes one dimension: Pillow's ``precompute_coeffs``.

    Of a type in which all sums of products are exact, since half a grey level is rounded up: 28 to
    224 needs only multiples of 1/16, which is float32; most others need float64. Apple's devices
    have none, so there a pixel may be a level or two off.
    """
    scale = size / side
    chunk = max(scale, 1.0)  # the triangle reaches this far to each side, in source pixels
    matrix = torch.zeros(side, size, dtype=torch.float64)
    for row in range(side):
        center = (row + 0.5) * scale
        first = max(int(center - chunk + 0.5), 0)
        last = min(int(center + chunk + 0.5), size)
        raw = [max(0.0, 1.0 - abs((i - center + 0.5) / chunk)) for i in range(first, last)]
        total = sum(raw)
        for i, weight in enumerate(raw, start=first):
            matrix[row, i] = math.floor(weight / total * _PRECISION + 0.5) / _PRECISION
    sixteen_bits = matrix * (1 << 16)  # and eight of a pixel are what float32 holds
    exact = torch.equal(sixteen_bits, sixteen_bits.floor())
    return (matrix.float() if exact or device.type == "mps" else matrix).to(device)
