"""Two ways to compute the same faster on a CPU, for networks that are plain chains of layers.

Max-pooling comes before a ReLU that stands in front of it: the greatest of some values is found
before or after the negative ones become 0, and the gradient goes to the same place, but there are
fewer values left to go through. Bit for bit the same.

Large linear layers are multiplied by oneDNN where PyTorch's own choice for float32, Intel's MKL,
doesn't use what the processor has. The same sums in another order.
"""

from __future__ import annotations

import functools
import itertools
import platform
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn

from ..kernels.in_order import layers as in_order
from ..kernels.in_order import says_its_order
from ..lib.torch_internals import hooked
from ..networks.lenet import LeNet

M = TypeVar("M", bound=nn.Module)

#: Linear layers with fewer weights stay with MKL: they take microseconds.
LEAST_WEIGHTS = 1 << 16


def rewritten(network: nn.Module) -> nn.Module:
    """A network that computes the same over the same parameters; ``network`` where none is faster.

    Made anew for each forward, so that it follows whatever is done to the layers meanwhile. Only
    :class:`torch.nn.Sequential` says by itself in which order its layers run, and a layer with
    hooks stays as it is.
    """
    if not says_its_order(network) or isinstance(network, LeNet) or hooked(network):
        return network
    layers = [layer for _, layer in in_order(network)]
    faster = [_multiplied(layer) for layer in _pooled_first(layers)]
    same = all(a is b for a, b in zip(faster, layers, strict=True))
    return network if same else nn.Sequential(*faster)


def _is(module: nn.Module, kind: type[M]) -> TypeGuard[M]:
    """Whether ``module`` runs as a ``kind`` does: with its ``forward``, and nobody listening."""
    plain = isinstance(module, kind) and type(module).forward is kind.forward
    return plain and "forward" not in vars(module) and not hooked(module)


def _pooled_first(layers: list[nn.Module]) -> list[nn.Module]:
    order = list(layers)
    for i, (layer, following) in enumerate(itertools.pairwise(layers)):
        if _is(layer, nn.ReLU) and _is(following, nn.MaxPool2d) and not following.return_indices:
            order[i : i + 2] = following, layer
    return order


def _multiplied(layer: nn.Module) -> nn.Module:
    """A large linear layer multiplied by oneDNN; any other layer as it is."""
    # A weight that is computed (spectral norm, say) may be another each time that it is looked at.
    weight = layer._parameters.get("weight")
    if not _is(layer, nn.Linear) or weight is None or weight.numel() < LEAST_WEIGHTS:
        return layer
    return _Linear(layer) if torch.backends.mkldnn.enabled and mkl_is_slow() else layer


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


class _Linear(nn.Module):
    """A linear layer multiplied by oneDNN, on inputs where that is the same."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.layer.weight, self.layer.bias
        if not _takes(x, weight, bias):
            return self.layer(x)  # type: ignore[no-any-return]
        return _Product.apply(x, weight, bias)  # type: ignore[no-any-return, no-untyped-call]


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
