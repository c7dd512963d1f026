"""The CPU engine: the step runs in compiled kernels, one image a SIMD lane.

A network that is a plain chain (blocks of convolution, activation and pooling, then linear layers)
is trained whole in the kernels, from the stored bytes to the updated parameters. Of any other, the
blocks that can be fused are, and the rest runs in PyTorch within the same step. It computes what
the eager engine computes; see docs/cpu-engine.md.
"""

from __future__ import annotations

import functools
import time

import torch
from torch import nn

from ..datasets.pixels import Pixels
from ..datasets.splits import Split
from ..kernels.accelerate import accelerate, fuses_convolutions
from ..kernels.finding import hooked
from ..kernels.stepper import PlainOptimizer, Stepper, Sums, find_whole
from ..recipes import Recipe
from .eager import Eager
from .work import Epoch, Tally, Times


class Cpu(Eager):
    """See :class:`~fivebyfive.engines.work.Engine`."""

    name = "cpu"

    def __init__(
        self, network: nn.Module, recipe: Recipe, train: Split, test: Split, device: torch.device
    ) -> None:
        fused = fuses_convolutions(network)
        super().__init__(accelerate(network) if fused else network, recipe, train, test, device)
        if fused:
            # The kernels read weights as PyTorch usually lays them out, not channels last.
            network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self._resizes = self._pixels.shape(self._train.shape) != self._train.shape
        self._stepper = self._whole_step(network, recipe)

    def _whole_step(self, network: nn.Module, recipe: Recipe) -> Stepper | None:
        """The step in the kernels, or ``None`` if this network or recipe needs PyTorch in it."""
        shape = self._pixels.shape(self._train.shape)
        whole = find_whole(network, shape)
        if whole is None or (recipe.loss == "nll" and not whole.normalised):
            return None
        classes = whole.blocks[-1].layer.weight.shape[0]
        labels = torch.cat([self._train.labels, self._test.labels])
        fits = len(labels) > 0 and int(labels.min()) >= 0 and int(labels.max()) < classes
        if not fits:
            return None
        every_byte = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1)
        table = Pixels(None, recipe.mean, recipe.std)(every_byte).flatten()
        trained = [p for p in network.parameters() if p.requires_grad]
        self._plain = PlainOptimizer(trained, recipe.lr, adam=recipe.optimizer == "adam")
        return Stepper(whole, shape, table, self._plain)

    @functools.cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """PyTorch's own, which takes over where the kernels can't go on."""
        optimizer = super().optimizer
        if self._stepper is not None:
            optimizer.state.update(self._plain.state)
        return optimizer

    def train(self, epoch: Epoch, first: int, stop: int, tally: Tally) -> tuple[Tally, Times]:
        """Do the steps ``first`` to ``stop - 1`` of ``epoch`` and add them to ``tally``."""
        if self._stepper is None or self._watched():
            return super().train(epoch, first, stop, tally)
        split, sums, converting = self._train, Sums(tally.loss, tally.correct), 0.0
        count = tally.count
        for step in range(first, stop):
            indices = epoch.batch(step)
            if self._resizes:
                begin = time.perf_counter()
                images, labels = self._pixels(split.images[indices]), split.labels[indices]
                converting += time.perf_counter() - begin
                self._stepper.train(images, labels, None, sums)
            else:
                self._stepper.train(split.images, split.labels, indices, sums)
            count += len(indices)
        computing = sums.seconds - sums.gather_seconds
        return Tally(sums.loss, sums.correct, count), Times(
            converting + sums.gather_seconds, computing
        )

    def evaluate(self) -> Tally:
        """Test on the whole test split, leaving random state and training mode as they were."""
        if self._stepper is None or self._resizes or self._watched():
            return super().evaluate()
        sums = Sums()
        self._stepper.evaluate(self._test.images, self._test.labels, sums)
        return Tally(sums.loss, sums.correct, len(self._test))

    def _watched(self) -> bool:
        """Whether someone listens to a layer, which only PyTorch's own step would tell."""
        return any(map(hooked, self.network.modules()))
