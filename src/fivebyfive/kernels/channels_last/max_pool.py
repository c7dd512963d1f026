"""Max-pooling, which keeps a byte for each result instead of PyTorch's eight."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn

from .. import again
from ..blocks import address
from ..library import MaxPool as Described
from ..library import kernels
from ..taking import plain_numbers
from .convolution import LEAST_CHANNELS
from .layout import channels_last, empty_images

#: A window has at most so many values on a side, so that a byte tells which was taken.
LARGEST_KERNEL = 15


class MaxPool(nn.Module):
    """Max-pooling with a square window, without dilation.

    Args:
        kernel: a window's side.
        stride: from window to window.
        padding: around the images.
        ceil_mode: whether a last window may reach beyond the images.
    """

    def __init__(self, kernel: int, stride: int, padding: int, ceil_mode: bool) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """The greatest value of each window, with the channels last."""
        if not self._takes(x):
            return self.plain(x)
        return _MaxPool.apply(self, x)  # type: ignore[no-any-return, no-untyped-call]

    def plain(self, x: Tensor) -> Tensor:
        """The same by PyTorch."""
        return F.max_pool2d(x, self.kernel, self.stride, self.padding, ceil_mode=self.ceil_mode)

    def _takes(self, x: Tensor) -> bool:
        return (
            x.dim() == 4
            and x.shape[1] >= LEAST_CHANNELS
            and x.numel() > 0
            and min(self._sides(x)) > 0
            and 2 * self.padding <= self.kernel
            and plain_numbers((x,))
        )

    def _sides(self, x: Tensor) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = (self._side(side) for side in x.shape[2:])
        return height, width

    def _side(self, side: int) -> int:
        room = side + 2 * self.padding - self.kernel
        if not self.ceil_mode:
            return room // self.stride + 1
        count = -(-room // self.stride) + 1
        # The last window must begin within the image or its padding before it.
        return count - ((count - 1) * self.stride >= side + self.padding)

    def described(self, x: Tensor) -> Described:
        """The pooling of such images, for the library."""
        images, channels, height, width = x.shape
        return Described(
            images, height, width, channels, self.kernel, self.stride, self.padding, *self._sides(x)
        )


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, module: MaxPool, x: Tensor) -> Tensor:
        active, described = kernels(), module.described(x)
        assert active is not None
        images = channels_last(x.detach())
        out = empty_images(*x.shape[:2], described.out_height, described.out_width)
        taken = torch.empty_like(out, dtype=torch.uint8)
        active.channels_last.contents.max_pool(
            ctypes.byref(described), address(images), address(out), address(taken),
            torch.get_num_threads(),
        )  # fmt: skip
        ctx.module = module
        ctx.taken = taken
        ctx.save_for_backward(x)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled() or not plain_numbers((grad,)):
            # To be differentiated once more, or for many gradients at once: that is PyTorch's.
            return None, *again.gradients(ctx.module.plain, (x,), (True,), grad)
        active, described = kernels(), ctx.module.described(x)
        assert active is not None
        grad, found = channels_last(grad), empty_images(*x.shape)
        active.channels_last.contents.max_pool_grad(
            ctypes.byref(described), address(grad), address(ctx.taken), address(found),
            torch.get_num_threads(),
        )  # fmt: skip
        return None, found
