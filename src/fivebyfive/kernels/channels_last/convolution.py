"""Convolutions with many channels, by minimal filtering where that is faster.

Winograd's minimal filtering does 2.25 multiplications where a direct 3×3 convolution does 9, and 9
of 25 for 5×5, with rounding errors below 1e-5 of the largest result; docs/cpu-engine.md has them.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn

from .. import again
from ..arguments import side
from ..blocks import address
from ..library import Weights, WideConvolution, kernels
from ..taking import plain_numbers
from .layout import channels_last, empty_images
from .workspace import Workspaces

#: With fewer channels the steps to the products and back cost more than is saved.
LEAST_CHANNELS = 16
FEW_CHANNELS = f"fewer than {LEAST_CHANNELS} channels, PyTorch is as fast"


def why_unsupported(shape: tuple[int, ...], settings: tuple[Any, ...]) -> str:
    """Why PyTorch computes a convolution whose weight has this shape; empty if the kernels do."""
    if len(shape) != 4:
        return "its weight is computed"
    if shape[2:] not in ((3, 3), (5, 5)):
        return f"kernel {shape[2]}×{shape[3]}, PyTorch is as fast"
    padding = _padding(*settings)
    if padding is None or padding >= shape[2]:
        return "stride, dilation, groups or padding that the kernels don't have"
    return FEW_CHANNELS if min(shape[:2]) < LEAST_CHANNELS else ""


class Convolution(nn.Module):
    """A convolution that is computed with its channels last, with the ReLU that follows it, if any.

    Args:
        settings: stride, padding, dilation and groups, as :func:`torch.conv2d` takes them.
        relu: whether a ReLU follows.
        workspaces: where the kernels work.
    """

    def __init__(self, settings: tuple[Any, ...], relu: bool, workspaces: Workspaces) -> None:
        super().__init__()
        self.settings, self.relu, self.workspaces = settings, relu, workspaces
        self.padding = _padding(*settings)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The convolution's output, with its channels last."""
        if not self._takes(x, weight, bias):
            return self.plain(x, weight, bias)
        return _Convolution.apply(self, x, weight, bias)  # type: ignore[no-any-return, no-untyped-call]

    def plain(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same by PyTorch."""
        x = channels_last(x)
        if x.dim() == 4 and x.shape[1] == 1:  # whose layout is any; the weight's decides
            weight = channels_last(weight)
        out = torch.conv2d(x, weight, bias, *self.settings)
        return F.relu(out, inplace=True) if self.relu else out

    def _takes(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
        if x.dim() != 4 or why_unsupported(tuple(weight.shape), self.settings):
            return False
        out_channels, in_channels, kernel, _ = weight.shape
        images, channels, *sides = x.shape
        height, width = (each + 2 * (self.padding or 0) - kernel + 1 for each in sides)
        return (
            channels == in_channels
            and min(height, width) > 0
            and _pays(images, height, width, kernel)
            and (bias is None or bias.shape == (out_channels,))
            and plain_numbers((x, weight) if bias is None else (x, weight, bias))
        )

    # The library's three ways to use weights [out, in, K, K]; images are [N, C, H, W].

    def run(
        self,
        x: Tensor,
        mask: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        *,
        back: bool = False,
    ) -> Tensor:
        """The output for ``x``, or going ``back`` the input's gradient, for one of the output.

        ``x`` counts as 0 where ``mask`` isn't positive.
        """
        active, threads = kernels(), torch.get_num_threads()
        assert active is not None
        functions, padding = active.channels_last.contents, self.padding or 0
        out_channels, in_channels, kernel, _ = weight.shape
        if back:
            padding, out_channels, in_channels = kernel - 1 - padding, in_channels, out_channels
        images, _, height, width = x.shape
        described = WideConvolution(
            images,
            height,
            width,
            in_channels,
            out_channels,
            kernel,
            padding,
            _weights(weight, back),
        )
        grown = 2 * padding - kernel + 1
        out = empty_images(images, out_channels, height + grown, width + grown)
        floats = functions.convolution_workspace(ctypes.byref(described), False, threads)
        with self.workspaces.borrow(floats) as memory:
            functions.convolution(
                ctypes.byref(described), address(x), address(mask), address(bias),
                self.relu and not back, address(out), address(memory), threads,
            )  # fmt: skip
        return out

    def gradients(
        self, x: Tensor, grad: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The gradients of the weight and, if there is one, the bias."""
        active, threads = kernels(), torch.get_num_threads()
        assert active is not None
        functions = active.channels_last.contents
        out_channels, in_channels, kernel, _ = weight.shape
        images, _, height, width = x.shape
        found = torch.empty_like(weight)
        found_bias = None if bias is None else torch.empty_like(bias)
        described = WideConvolution(
            images, height, width, in_channels, out_channels, kernel, self.padding or 0,
            _weights(found, back=False),
        )  # fmt: skip
        floats = functions.convolution_workspace(ctypes.byref(described), True, threads)
        with self.workspaces.borrow(floats) as memory:
            functions.convolution_weight_grad(
                ctypes.byref(described), address(x), address(grad), address(mask),
                address(found_bias), address(memory), threads,
            )  # fmt: skip
        return found, found_bias


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, module: Convolution, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        values = None if bias is None else bias.detach().contiguous()
        out = module.run(channels_last(x.detach()), None, weight.detach(), values)
        ctx.module = module
        ctx.bias = bias  # PyTorch doesn't keep it, so that it may be changed before the backward
        ctx.save_for_backward(x, weight, out if module.relu else None)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        module, bias = ctx.module, ctx.bias
        x, weight, out = ctx.saved_tensors
        _, for_x, for_weight, for_bias = ctx.needs_input_grad
        if torch.is_grad_enabled() or not plain_numbers((grad,)):
            # To be differentiated once more, or for many gradients at once: that is PyTorch's.
            wanted = ctx.needs_input_grad[1:]
            return None, *again.gradients(module.plain, (x, weight, bias), wanted, grad)
        grad, mask = channels_last(grad), out
        found: tuple[Tensor | None, Tensor | None] = None, None
        if for_weight or for_bias:
            found = module.gradients(channels_last(x), grad, mask, weight, bias)
        for_x = module.run(grad, mask, weight, None, back=True) if for_x else None
        return None, for_x, found[0] if for_weight else None, found[1] if for_bias else None


def _pays(images: int, height: int, width: int, kernel: int) -> bool:
    """Whether minimal filtering is faster than a direct convolution of this output.

    Counted in products for a pair of channels: 36 for a tile, half as many again for what comes
    before and after them (measured), and as many as for 100 tiles to bring the filters to the
    points and back, where there are few images or small ones.
    """
    out = 7 - kernel  # outputs on a tile's side
    tiles = images * -(-height // out) * -(-width // out)
    return (1.5 * tiles + 100) * 36 < images * height * width * kernel**2


def _weights(weight: Tensor, back: bool) -> Weights:
    """Where weights lie; turned by half a turn, and in for out, to go back."""
    out, into, row, column = weight.stride()
    first = weight.data_ptr()
    if back:
        first += weight.element_size() * (weight.shape[2] - 1) * (row + column)
        out, into, row, column = into, out, -row, -column
    return Weights(first, out, into, row, column)


def _padding(stride: Any, padding: Any, dilation: Any, groups: Any) -> int | None:
    """The padding all around of a convolution that the kernels know; else ``None``."""
    around = side(padding)
    plain = side(stride) == side(dilation) == groups == 1
    return around if plain and around is not None and around >= 0 else None
