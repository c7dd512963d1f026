"""Batch normalisation with the addition and the ReLU that follow it."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn

from .. import again
from ..blocks import address, empty
from ..library import BatchNorm, kernels
from ..taking import plain_numbers
from .convolution import LEAST_CHANNELS
from .layout import channels_last
from .workspace import Workspaces


class Normalisation(nn.Module):
    """A batch normalisation, and the addition of other images and the ReLU that may follow.

    Args:
        training: whether the statistics are the batch's.
        momentum: how much of the batch's goes into the running statistics.
        eps: is added to the variance.
        relu: whether a ReLU follows.
        workspaces: where the kernels work.
    """

    def __init__(
        self, training: bool, momentum: float, eps: float, relu: bool, workspaces: Workspaces
    ) -> None:
        super().__init__()
        self.by_batch, self.momentum, self.eps = training, momentum, eps
        self.relu, self.workspaces = relu, workspaces

    def forward(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        other: Tensor | None = None,
    ) -> Tensor:
        """The output, with its channels last."""
        running = (running_mean, running_var)
        if not self._takes(x, running, weight, bias, other):
            return self.plain(x, running_mean, running_var, weight, bias, other)
        if self.by_batch:
            return _Normalisation.apply(self, running, x, weight, bias, other)  # type: ignore[no-any-return, no-untyped-call]
        if torch.is_grad_enabled() and any(
            t is not None and t.requires_grad for t in (x, weight, bias, other)
        ):
            return self.plain(x, running_mean, running_var, weight, bias, other)
        return self.run(x, running, weight, bias, other)[0]

    def plain(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        other: Tensor | None,
    ) -> Tensor:
        """The same by PyTorch."""
        out = F.batch_norm(
            x, running_mean, running_var, weight, bias, self.by_batch, self.momentum, self.eps
        )
        if other is not None:
            out = out + other
        return F.relu(out) if self.relu else out

    def _takes(
        self,
        x: Tensor,
        running: tuple[Tensor | None, Tensor | None],
        weight: Tensor | None,
        bias: Tensor | None,
        other: Tensor | None,
    ) -> bool:
        tensors = [t for t in (x, *running, weight, bias, other) if t is not None]
        channels = [t for t in (*running, weight, bias) if t is not None]
        return (
            x.dim() == 4
            and x.shape[1] >= LEAST_CHANNELS
            and x.numel() > x.shape[1]
            and (other is None or other.shape == x.shape)
            and all(t.shape == x.shape[1:2] and t.is_contiguous() for t in channels)
            and (self.by_batch or None not in running)
            and (running[0] is None) == (running[1] is None)
            and not any(t is not None and t.requires_grad for t in running)
            and plain_numbers(tensors)
        )

    def run(
        self,
        x: Tensor,
        running: tuple[Tensor | None, Tensor | None],
        weight: Tensor | None,
        bias: Tensor | None,
        other: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The output, the mean, and the inverse of the deviation."""
        active, threads = kernels(), torch.get_num_threads()
        assert active is not None
        functions = active.channels_last.contents
        x = channels_last(x.detach())
        channels = x.shape[1]
        if self.by_batch:
            mean, inverse = empty(channels), empty(channels)
        else:
            assert running[0] is not None
            assert running[1] is not None
            mean, inverse = running[0], (running[1] + self.eps).rsqrt()
            running = None, None
        described = self._described(x, weight, bias, running, mean, inverse)
        out = torch.empty_like(x)
        other = None if other is None else channels_last(other.detach())
        floats = functions.batch_norm_workspace(ctypes.byref(described)) if self.by_batch else 0
        with self.workspaces.borrow(floats) as memory:
            functions.batch_norm(
                ctypes.byref(described), address(x), address(other), address(out),
                address(memory if self.by_batch else None), threads,
            )  # fmt: skip
        for each in running:
            if each is not None:  # the kernels wrote it, which autograd should know
                torch.autograd.graph.increment_version(each)
        return out, mean, inverse

    def _described(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running: tuple[Tensor | None, Tensor | None],
        mean: Tensor,
        inverse: Tensor,
    ) -> BatchNorm:
        channels = x.shape[1]
        given = (weight, bias, *running, mean, inverse)
        return BatchNorm(
            x.numel() // channels, channels, self.relu, self.eps, self.momentum,
            *map(address, given),
        )  # fmt: skip

    def gradients(
        self,
        x: Tensor,
        grad: Tensor,
        out: Tensor | None,
        affine: tuple[Tensor | None, Tensor | None],
        statistics: tuple[Tensor, Tensor],
        added: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The gradients of the images, weight, bias, and what was added."""
        active, threads = kernels(), torch.get_num_threads()
        assert active is not None
        functions = active.channels_last.contents
        channels = x.shape[1]
        described = self._described(x, *affine, (None, None), *statistics)
        x_grad, for_weight, for_bias = torch.empty_like(x), empty(channels), empty(channels)
        other_grad = torch.empty_like(x) if added and self.relu else None
        floats = functions.batch_norm_workspace(ctypes.byref(described))
        with self.workspaces.borrow(floats) as memory:
            functions.batch_norm_grad(
                ctypes.byref(described), address(x), address(grad), address(out), address(x_grad),
                address(other_grad), address(for_weight), address(for_bias), address(memory),
                threads,
            )  # fmt: skip
        return x_grad, for_weight, for_bias, other_grad if self.relu else grad


class _Normalisation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        module: Normalisation,
        running: tuple[Tensor | None, Tensor | None],
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        other: Tensor | None,
    ) -> Tensor:
        out, *ctx.statistics = module.run(x, running, weight, bias, other)
        ctx.module, ctx.bias, ctx.other = module, bias, other
        # Where nothing was added, the kernels find anew where the ReLU's input was positive.
        ctx.save_for_backward(x, weight, out if module.relu and other is not None else None)
        # Its values, since PyTorch doesn't keep it: it may be changed before the backward.
        ctx.bias_values = None if bias is None else bias.detach().clone()
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        module, bias, other = ctx.module, ctx.bias, ctx.other
        x, weight, out = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled() or not plain_numbers((grad,)):
            # To be differentiated once more, or for many gradients at once: that is PyTorch's.
            def compute(x: Tensor, *others: Tensor | None) -> Tensor:
                return module.plain(x, None, None, *others)  # type: ignore[no-any-return]

            inputs = (x, weight, bias, other)
            return None, None, *again.gradients(compute, inputs, wanted, grad)
        found = module.gradients(
            channels_last(x),
            channels_last(grad),
            out,
            (weight, ctx.bias_values),
            ctx.statistics,
            other is not None,
        )
        return (
            None,
            None,
            *(each if want else None for each, want in zip(found, wanted, strict=True)),
        )
