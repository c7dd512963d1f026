"""What a step, and a test, take in memory beside weights and gradients, by who computes them."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from ..kernels.blocks import chain, shapes
from ..kernels.library import kernels
from ..kernels.stepper import Whole, find_whole
from ..recipes import Recipe
from .training_step import Need, measure, measure_test

Shape = tuple[int, int, int]


class Demand(Protocol):
    """What one way of computing takes, for any number of images at once."""

    def training(self, count: int, *, again: bool = False) -> Need:
        """For a step on ``count`` images; ``again``: the gradients of such batches are added up."""

    def testing(self, count: int) -> int:
        """For testing on ``count`` images, in bytes."""


class Plain:
    """PyTorch's own layers, followed on the meta device."""

    def __init__(self, network: nn.Module, shape: Shape) -> None:
        self._network, self._shape = network, shape

    def training(self, count: int, *, again: bool = False) -> Need:
        """See :class:`Demand`."""
        return measure(self._network, self._shape, count, again=again).need

    def testing(self, count: int) -> int:
        """See :class:`Demand`."""
        return measure_test(self._network, self._shape, count)


class Kernels:
    """The CPU engine's step in its kernels, which tell themselves what workspace they take."""

    def __init__(self, whole: Whole, shape: Shape) -> None:
        inputs, active = shapes(whole.blocks, shape), kernels()
        assert inputs is not None
        assert active is not None
        parameters = [p for block in whole.blocks for p in block.parameters()]
        self._kernels = active
        self._chain = chain(whole.blocks, inputs, parameters, [None] * len(parameters))

    def training(self, count: int, *, again: bool = False) -> Need:  # noqa: ARG002
        """See :class:`Demand`. The images are read where they lie, as bytes."""
        return Need(0, self._workspace(count, keep=True), 0)

    def testing(self, count: int) -> int:
        """See :class:`Demand`."""
        return self._workspace(count, keep=False)

    def _workspace(self, count: int, keep: bool) -> int:
        floats: int = self._kernels.workspace(self._chain, count, keep, torch.get_num_threads())
        return 4 * floats


def of_engine(name: str, network: nn.Module, recipe: Recipe, shape: Shape) -> Demand:
    """What the engine called ``name`` takes to train ``network`` on images of ``shape``."""
    whole = find_whole(network, shape) if name == "cpu" and recipe.resize is None else None
    if whole is None or (recipe.loss == "nll" and not whole.normalised):
        return Plain(network, shape)
    return Kernels(whole, shape)
