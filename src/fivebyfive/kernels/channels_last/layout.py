"""Images laid out with their channels last, and given back as PyTorch would have laid them out."""

from __future__ import annotations

import torch
from torch import Tensor


def channels_last(images: Tensor) -> Tensor:
    """The same images with their channels last, copied unless they lie so."""
    return images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images


def empty_images(*shape: int) -> Tensor:
    """Room for images with their channels last."""
    return torch.empty(shape, dtype=torch.float32, device="cpu", memory_format=torch.channels_last)


def settled(images: Tensor, *sources: Tensor | None) -> Tensor:
    """Images as PyTorch would have them, from what they were made of.

    The layout shows: in what ``view`` takes, and in which order dropout draws.
    """
    last = any(each is not None and _lies_channels_last(each) for each in sources)
    return images if last else images.contiguous()


def _lies_channels_last(images: Tensor) -> bool:
    """Whether PyTorch takes images for laid out with their channels last, dense or not."""
    if images.dim() != 4 or images.numel() == 0 or images.stride(1) == 0:
        return False
    least = 0
    for dim in (1, 3, 2, 0):
        stride, size = images.stride(dim), images.shape[dim]
        # Of one channel and one pixel, any layout is the usual one.
        if stride < least or (dim == 0 and least == images.stride(1)):
            return False
        least = stride * size if size > 1 else stride
    return True
