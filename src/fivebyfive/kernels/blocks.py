"""Blocks: what the kernels can run as one, and chains of them described for the C library."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .library import Chain, Layer

ACTIVATIONS = ("none", "sigmoid", "tanh", "relu")
POOLINGS = ("none", "average", "max")

#: The longest chain the library takes at once.
MOST_LAYERS = 32


@dataclass(frozen=True)
class Block:
    """A convolution (stride 1) or linear layer, its activation, and its pooling.

    ``weight`` is its weight's shape: ``(out, in, K, K)`` or ``(out, in)``; ``pool`` is (kernel,
    stride), and pooling follows convolutions only.
    """

    weight: tuple[int, ...]
    bias: bool = True
    padding: int = 0
    activation: str = "none"
    pooling: str = "none"
    pool: tuple[int, int] = (1, 1)

    @property
    def convolves(self) -> bool:
        """Whether it is a convolution."""
        return len(self.weight) == 4

    @property
    def parameters(self) -> int:
        """How many parameter tensors it takes: its weight, and its bias if it has one."""
        return 1 + self.bias

    def output(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The output's shape for one input of ``shape``, or ``None`` if the block can't take it."""
        out_channels, in_channels, *kernel = self.weight
        if not self.convolves:
            return (out_channels,) if shape == (in_channels,) else None
        if len(shape) != 3 or shape[0] != in_channels:
            return None
        sides = [side + 2 * self.padding - kernel[0] + 1 for side in shape[1:]]
        if self.pooling != "none":
            size, stride = self.pool
            sides = [(side - size) // stride + 1 if side >= size else 0 for side in sides]
        return (out_channels, *sides) if min(sides) > 0 else None


def shapes(blocks: Sequence[Block], shape: tuple[int, ...]) -> list[tuple[int, ...]] | None:
    """What goes into each block, and what comes out of the last; ``None`` where one can't take it.

    Before the first linear layer the images are laid flat.
    """
    result = [shape]
    for block in blocks:
        if not block.convolves and len(shape) > 1:
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
        described.kind = not block.convolves
        described.in_channels, described.in_height, described.in_width = (*shape, 1, 1)[:3]
        described.out_channels, _, described.kernel = (*block.weight, 1)[:3]
        described.padding = block.padding
        described.activation = ACTIVATIONS.index(block.activation)
        described.pooling = POOLINGS.index(block.pooling)
        described.pool_kernel, described.pool_stride = block.pool
        described.weight, described.weight_grad = address(next(values)), address(next(gradients))
        if block.bias:
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
