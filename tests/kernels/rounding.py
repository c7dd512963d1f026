"""What rounding may do to a block: how far it may take each value, and where it decides the way.

The error of a sum in floating point is bounded by a small multiple of the sum of its terms'
magnitudes, whatever the order of summing, and by nothing smaller: where the terms cancel, it may be
large beside the result (Higham, "Accuracy and stability of numerical algorithms", chapter 4). So an
error is measured here against the magnitudes: what the same sums come to when every weight, input
and gradient in them is made positive.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .drawing import gradients

#: Of a sum's magnitudes: 17 times the rounding of a single float32.
UNIT = 1e-6

#: The slope of a smooth activation is a difference (1 - y², y - y²) of an output y that is itself
#: off: so many times the gradient's magnitude covers that.
SLOPE = 5


@dataclass(frozen=True)
class Yardstick:
    """A block's exact values and their magnitudes.

    ``exact`` and ``magnitudes`` are in the order of :func:`~.drawing.gradients`. ``undecided``
    marks the outputs whose gradient takes a way that rounding decides; ``out_grad`` is 0 there.
    """

    out_grad: Tensor
    undecided: Tensor
    exact: list[Tensor]
    magnitudes: list[Tensor]


def measure(network: nn.Sequential, x: Tensor, out_grad: Tensor) -> Yardstick:
    """Compute a block (layer, activation if any, pooling if any) in float64.

    A ReLU passes a gradient or not, and a maximum passes it to one value or another. Where the
    decision is closer than float32 can tell, both ways are right, so no gradient is sent there.
    """
    layer, activation, pooling = parts(copy.deepcopy(network).double())
    absolute = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in absolute.parameters():
            parameter.abs_()
        before = layer(x.double())
        after = activation(before)
        size = absolute(x.double().abs()) + after.abs()
        undecided = windows(_at_kink(activation, before, size), pooling).any(-1)
        if isinstance(pooling, nn.MaxPool2d):
            undecided |= _tied(windows(after, pooling), windows(size, pooling), activation)
    out_grad = out_grad.double().masked_fill(undecided, 0)
    _, reaching = gradients(pooling, after, out_grad.abs(), torch.float64)
    if isinstance(activation, nn.ReLU):
        reaching *= before > 0
    elif not isinstance(activation, nn.Identity):
        reaching *= SLOPE
    _, *magnitudes = gradients(absolute, x.abs(), reaching, torch.float64)
    exact = gradients(network, x, out_grad, torch.float64)
    return Yardstick(out_grad, undecided, exact, [pooling(size), *magnitudes])


def parts(network: nn.Sequential) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A block's layer, activation and pooling, the last two an identity where there is none."""
    layer, *rest = network
    pooling = [m for m in rest if isinstance(m, nn.AvgPool2d | nn.MaxPool2d)]
    activation = [m for m in rest if m not in pooling]
    return layer, *(found[0] if found else nn.Identity() for found in (activation, pooling))


def windows(values: Tensor, pooling: nn.Module) -> Tensor:
    """The values that each output is pooled from, along a new last dimension."""
    if isinstance(pooling, nn.Identity):
        return values.unsqueeze(-1)
    kernel, stride = pooling.kernel_size, pooling.stride
    return values.unfold(2, kernel, stride).unfold(3, kernel, stride).flatten(-2)


def _at_kink(activation: nn.Module, before: Tensor, size: Tensor) -> Tensor:
    return (before.abs() <= UNIT * size) & isinstance(activation, nn.ReLU)


def _tied(after: Tensor, size: Tensor, activation: nn.Module) -> Tensor:
    first, second = after.topk(2).values.unbind(-1)
    tied = first - second <= 2 * UNIT * size.amax(-1)
    # Of zeros that a ReLU left, none passes a gradient on.
    return tied & (first > 0) if isinstance(activation, nn.ReLU) else tied
