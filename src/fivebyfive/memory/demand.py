"""What a step, and a test, take in memory beside weights and gradients, by who computes them."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import nn

from ..engines.allocator import keep_large_buffers
from ..engines.rewrites import rewritten
from ..kernels.blocks import chain, shapes
from ..kernels.library import kernels
from ..kernels.stepper import WholeNetwork, match_whole_network
from ..recipes import Recipe
from .heap import Heap
from .training_step import Need, Step, measure, measure_test

Shape = tuple[int, int, int]


class MemoryModel(Protocol):
    """What one way of computing takes, for any number of images at once."""

    def training(self, count: int, *, again: bool = False) -> tuple[Need, int]:
        """For a step on ``count`` images, and what is lost beside it to holes in the heap.

        ``again``: the gradients of such batches are added up.
        """

    def testing(self, count: int) -> int:
        """For testing on ``count`` images at once, in bytes."""


class Plain:
    """PyTorch's own layers, followed on the meta device; ``heap`` if glibc's keeps their memory."""

    def __init__(self, network: nn.Module, shape: Shape, *, bf16: bool, heap: bool) -> None:
        self._network, self._shape, self._bf16, self._heap = network, shape, bf16, heap

    def training(self, count: int, *, again: bool = False) -> tuple[Need, int]:
        """See :class:`MemoryModel`."""
        step = self._step(count, again)
        if not self._heap:
            return step.need, 0
        heap = Heap()
        heap.replay(step.history)
        return step.need, heap.top - step.peak

    def testing(self, count: int) -> int:
        """See :class:`MemoryModel`."""
        test = measure_test(self._network, self._shape, count, bf16=self._bf16)
        if not self._heap:
            return test.peak
        heap = Heap()
        for _ in range(2):  # the second batch doesn't find the holes that the first did
            heap.replay(test.history)
        return heap.top

    def _step(self, count: int, again: bool) -> Step:
        return measure(self._network, self._shape, count, again=again, bf16=self._bf16)


class Kernels:
    """The CPU engine's step in its kernels, which tell themselves what workspace they take."""

    def __init__(self, whole: WholeNetwork, shape: Shape) -> None:
        inputs, active = shapes(whole.blocks, shape), kernels()
        assert inputs is not None
        assert active is not None
        parameters = [p for block in whole.blocks for p in block.parameters()]
        self._image = 4 * math.prod(shape)
        self._gradients = sum(p.nbytes for p in parameters)
        self._kernels = active
        self._chain = chain(whole.blocks, inputs, parameters, [None] * len(parameters))

    def training(self, count: int, *, again: bool = False) -> tuple[Need, int]:
        """See :class:`MemoryModel`. Whole batches are read where they lie, parts aren't."""
        images, added = (self._image * count, self._gradients) if again else (0, 0)
        return Need(images, self._workspace(count, keep=True), added), 0

    def testing(self, count: int) -> int:
        """See :class:`MemoryModel`."""
        return self._workspace(count, keep=False)

    def _workspace(self, count: int, keep: bool) -> int:
        floats: int = self._kernels.workspace(self._chain, count, keep, torch.get_num_threads())
        return 4 * floats


def of_engine(
    name: str, network: nn.Module, recipe: Recipe, shape: Shape, device: torch.device
) -> MemoryModel:
    """What the engine called ``name`` takes to train ``network`` on images of ``shape``."""
    fused = name == "cpu" and recipe.precision == "fp32" and recipe.resize is None
    whole = match_whole_network(network, shape) if fused else None
    if whole is None or (recipe.loss == "nll" and not whole.normalised):
        heap = device.type == "cpu" and keep_large_buffers()
        seen = rewritten(network) if name == "cpu" else network
        return Plain(seen, shape, bf16=recipe.precision == "bf16", heap=heap)
    return Kernels(whole, shape)
