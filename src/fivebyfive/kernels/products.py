"""Large linear layers multiplied by oneDNN.

PyTorch's own choice for float32, Intel's MKL, doesn't use what every processor has. The same sums
in another order.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn

#: Linear layers with fewer weights stay with MKL: they take microseconds.
LEAST_WEIGHTS = 1 << 16


def pays(weight: Tensor) -> bool:
    """Whether a linear layer with this weight is multiplied faster by oneDNN."""
    usable = bool(torch.backends.mkldnn.enabled)
    return weight.numel() >= LEAST_WEIGHTS and usable and mkl_is_slow()


class Linear(nn.Module):
    """A linear layer without parameters of its own, multiplied by oneDNN where that is the same."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """``x @ weight.T + bias``."""
        return linear(x, weight, bias) if pays(weight) else F.linear(x, weight, bias)


@functools.cache
def mkl_is_slow() -> bool:
    """Whether PyTorch multiplies by MKL on a processor of AMD's: less than half of oneDNN's speed.

    Asked of the processor and not measured: a choice that hangs on a clock would give a run other
    last bits when it is started again.
    """
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    try:
        processor = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        processor = platform.processor()
    return "AuthenticAMD" in processor


def _takes(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN multiplies these just as PyTorch would."""
    return (
        all(
            type(t) in (Tensor, nn.Parameter)
            and t.dtype == torch.float32
            and t.device.type == "cpu"
            and t.layout == torch.strided
            for t in (x, weight, bias)
            if t is not None
        )
        and x.dim() == 2
        and len(x) > 0
        and x.shape[1] == weight.shape[1]
        and not torch.is_autocast_enabled("cpu")
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ weight.T + bias``, by oneDNN where that is just what PyTorch would give."""
    if not _takes(x, weight, bias):
        return F.linear(x, weight, bias)
    return _Product.apply(x, weight, bias)  # type: ignore[no-any-return, no-untyped-call]


class _Product(torch.autograd.Function):
    """``x @ weight.T + bias`` and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _by_onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        # With gradients on this is to be differentiated once more, which PyTorch knows how to.
        multiply = F.linear if torch.is_grad_enabled() else _by_onednn
        return (
            multiply(grad, weight.t()) if for_x else None,
            multiply(grad.t(), x.t()) if for_weight else None,
            grad.sum(0) if for_bias else None,
        )


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product
