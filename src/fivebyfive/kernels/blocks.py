"""Blocks: what the kernels can run as one, and chains of them described for the C library."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .library import Chain, Layer

ACTIVATIONS = ("none", "sigmoid", "tanh", "relu")
POOLINGS = ("none", "average", "max")

#: The longest chain the library takes at once.
MOST_LAYERS = 32


@dataclass(frozen=True)
class Block:
    """A convolution (stride 1) or linear layer, its activation, and its pooling.

    ``pool`` is (kernel, stride); pooling follows convolutions only.
    """

    layer: nn.Conv2d | nn.Linear
    activation: str = "none"
    pooling: str = "none"
    pool: tuple[int, int] = (1, 1)

    def parameters(self) -> list[Tensor]:
        """The weight, and the bias if there is one."""
        return [p for p in (self.layer.weight, self.layer.bias) if p is not None]

    def output(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The output's shape for one input of ``shape``, or ``None`` if the block can't take it."""
        layer = self.layer
        if not self._as_told():
            return None
        if isinstance(layer, nn.Linear):
            return (layer.out_features,) if shape == (layer.in_features,) else None
        if len(shape) != 3 or shape[0] != layer.in_channels:
            return None
        grown = 2 * int(layer.padding[0]) - layer.kernel_size[0] + 1
        sides = [side + grown for side in shape[1:]]
        if self.pooling != "none":
            kernel, stride = self.pool
            sides = [(side - kernel) // stride + 1 if side >= kernel else 0 for side in sides]
        return (layer.out_channels, *sides) if min(sides) > 0 else None

    def _as_told(self) -> bool:
        """Whether the parameters are what the layer's settings say: one may put in any others."""
        layer = self.layer
        if isinstance(layer, nn.Linear):
            expected: tuple[int, ...] = (layer.out_features, layer.in_features)
        else:
            expected = (layer.out_channels, layer.in_channels, *layer.kernel_size)
        biased = layer.bias is None or layer.bias.shape == expected[:1]
        return layer.weight.shape == expected and biased


def shapes(blocks: Sequence[Block], shape: tuple[int, ...]) -> list[tuple[int, ...]] | None:
    """What goes into each block, and what comes out of the last; ``None`` where one can't take it.

    Before the first linear layer the images are laid flat.
    """
    result = [shape]
    for block in blocks:
        if isinstance(block.layer, nn.Linear) and len(shape) > 1:
            shape = (int(torch.Size(shape).numel()),)
            result[-1] = shape
        after = block.output(shape)
        if after is None:
            return None
        result.append(shape := after)
    return result


def chain(
    blocks: Sequence[Block],
    inputs: Sequence[tuple[int, ...]],
    parameters: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> Chain:
    """Describe ``blocks`` to the library.

    ``inputs`` is what :func:`shapes` gave; ``parameters`` are the blocks' own in their order,
    contiguous; ``grads`` has a buffer (or ``None``: not wanted) for each. The description holds
    bare addresses: all of these must outlive it.
    """
    values, gradients = iter(parameters), iter(grads)
    layers = (Layer * len(blocks))()
    for described, block, shape in zip(layers, blocks, inputs, strict=False):
        layer = block.layer
        described.kind = isinstance(layer, nn.Linear)
        described.in_channels, described.in_height, described.in_width = (*shape, 1, 1)[:3]
        described.out_channels, described.kernel = layer.weight.shape[0], 1
        if isinstance(layer, nn.Conv2d):
            described.kernel, described.padding = layer.kernel_size[0], int(layer.padding[0])
        described.activation = ACTIVATIONS.index(block.activation)
        described.pooling = POOLINGS.index(block.pooling)
        described.pool_kernel, described.pool_stride = block.pool
        described.weight, described.weight_grad = address(next(values)), address(next(gradients))
        if layer.bias is not None:
            described.bias, described.bias_grad = address(next(values)), address(next(gradients))
    result = Chain(ctypes.cast(layers, ctypes.POINTER(Layer)), len(blocks))
    result.keep = layers  # ctypes.cast doesn't keep the array alive on its own
    return result


def address(tensor: Tensor | None) -> int | None:
    """Where a contiguous tensor's first value lies."""
    return None if tensor is None else tensor.data_ptr()


def empty(*shape: int) -> Tensor:
    """Room for the library's numbers, whatever the default type and device are."""
    return torch.empty(shape, dtype=torch.float32, device="cpu")
