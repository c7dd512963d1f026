"""Two ways to compute the same faster on a CPU, for networks that are plain chains of layers.

Max-pooling comes before a ReLU that stands in front of it: the greatest of some values is found
before or after the negative ones become 0, and the gradient goes to the same place, but there are
fewer values left to go through. Bit for bit the same.

Large linear layers are multiplied by oneDNN where PyTorch's own choice for float32, Intel's MKL,
doesn't use what the processor has. The same sums in another order.
"""

from __future__ import annotations

import itertools
from typing import TypeGuard, TypeVar

from torch import Tensor, nn

from ..kernels import products
from ..kernels.in_order import layers as in_order
from ..kernels.in_order import says_its_order
from ..lib.torch_internals import hooked
from ..networks.lenet import LeNet

M = TypeVar("M", bound=nn.Module)


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
    if not _is(layer, nn.Linear) or weight is None or not products.pays(weight):
        return layer
    return _Linear(layer)


class _Linear(nn.Module):
    """A linear layer multiplied by oneDNN, on inputs where that is the same."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return products.linear(x, self.layer.weight, self.layer.bias)
