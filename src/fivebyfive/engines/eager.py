"""The plain PyTorch engine: right on every device, and the yardstick for the others.

What makes it faster than the textbook loop changes no mathematics: images stay on the device as
bytes and a whole batch is gathered and converted at once, large buffers are kept between steps, the
optimizer runs fused, and nothing is read from the device before a stretch is over.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn

from ..datasets.pixels import Pixels
from ..datasets.splits import Split
from ..modes import in_mode
from ..randomness import STEP, derive, kept, reseed
from ..recipes import Optimizer, Recipe
from .allocator import keep_large_buffers
from .stopwatch import Stopwatch
from .work import Epoch, Tally, Times

LOSSES = {"cross-entropy": F.cross_entropy, "nll": F.nll_loss}
TEST_BATCH = 500


class Eager:
    """See :class:`~fivebyfive.engines.work.Engine`."""

    name = "eager"

    def __init__(
        self, network: nn.Module, recipe: Recipe, train: Split, test: Split, device: torch.device
    ) -> None:
        if device.type == "cpu":
            keep_large_buffers()
        self.network = network.to(device)
        if not network.training:
            # Parts in evaluation mode are frozen on purpose; a whole network is just from a test.
            network.train()
        self._device = device
        self._recipe = recipe
        self._loss = LOSSES[recipe.loss]
        self._pixels = Pixels(recipe.resize, recipe.mean, recipe.std)
        self._train, self._test = train.to(device), test.to(device)
        self._watch = Stopwatch(device)
        lay_out(network, self._pixels(self._train.images[:2]))

    @functools.cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """The recipe's, over the network's parameters."""
        return make_optimizer(self._recipe.optimizer, self.network, self._recipe.lr)

    def train(self, epoch: Epoch, first: int, stop: int, tally: Tally) -> tuple[Tally, Times]:
        """Do the steps ``first`` to ``stop - 1`` of ``epoch`` and add them to ``tally``."""
        sums = self._sums(tally)
        count = tally.count
        with kept(self._device):
            for step in range(first, stop):
                # Dropout, too, depends on where we are and not on what happened before.
                reseed(derive(self._recipe.seed, STEP, epoch.number, step), self._device)
                self._watch.data()
                indices = epoch.batch(step)
                images = self._pixels(self._train.images[indices])
                labels = self._train.labels[indices]
                self._watch.compute()
                self.optimizer.zero_grad()
                scores = self.network(images)
                loss = self._loss(scores, labels)
                loss.backward()
                self.optimizer.step()
                add(sums, scores.detach(), labels, loss.detach() * len(labels))
                self._watch.stop()
                count += len(labels)
        return read(sums, count), self._watch.read()

    @torch.no_grad()
    def evaluate(self) -> Tally:
        """Test on the whole test split, leaving random state and training mode as they were."""
        sums = self._sums(Tally())
        with kept(self._device), in_mode(self.network, training=False):
            for begin in range(0, len(self._test), TEST_BATCH):
                images = self._pixels(self._test.images[begin : begin + TEST_BATCH])
                labels = self._test.labels[begin : begin + TEST_BATCH]
                scores = self.network(images)
                add(sums, scores, labels, self._loss(scores, labels, reduction="sum"))
        return read(sums, len(self._test))

    def _sums(self, tally: Tally) -> Tensor:
        # Apple's devices have no float64.
        exact = torch.float32 if self._device.type == "mps" else torch.float64
        return torch.tensor([tally.loss, float(tally.correct)], dtype=exact, device=self._device)


def add(sums: Tensor, scores: Tensor, labels: Tensor, loss: Tensor) -> None:
    """Add a batch's loss (summed over its images) and right answers to ``sums``, on the device."""
    sums[0] += loss
    sums[1] += (scores.argmax(1) == labels).sum()


def read(sums: Tensor, count: int) -> Tally:
    """Read the sums back: the one wait for the device in a stretch."""
    loss, correct = sums.tolist()
    return Tally(loss, int(correct), count)


def lay_out(network: nn.Module, images: Tensor) -> None:
    """Lay the weights of convolutions out channels last, where PyTorch is faster.

    A network that can't be run so stays as it was: one that uses ``view`` on a convolution's output
    counts on the usual layout. ``images`` are a few to try it with, on the network's device.
    """
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
    if not weights:
        return
    before = [weight.data for weight in weights]
    for weight in weights:
        weight.data = weight.data.to(memory_format=torch.channels_last)
    try:
        with torch.no_grad(), kept(images.device), in_mode(network, training=False):
            network(images)
    except RuntimeError:
        for weight, data in zip(weights, before, strict=True):
            weight.data = data


def make_optimizer(name: Optimizer, network: nn.Module, lr: float) -> torch.optim.Optimizer:
    """The recipe's optimizer over the trainable parameters, fused into one pass."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    kinds: dict[str, type[Any]] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    optimizer: torch.optim.Optimizer = kinds[name](parameters, lr=lr, fused=True)
    return optimizer
