"""What goes into an engine and what comes out: a job, an epoch's order, sums and times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..datasets.splits import Split
from ..lib.private_draws import Source
from ..recipes import Recipe
from .coverage import Coverage
from .process_group import SINGLE_PROCESS, ProcessGroup


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images.

    ``number`` counts from 1; ``order`` (``int64 [N]``) lies on the engine's device; the last batch
    is smaller where ``batch_size`` doesn't divide N.
    """

    number: int
    order: Tensor
    batch_size: int

    @property
    def steps(self) -> int:
        """How many batches the epoch has, the last smaller one included."""
        return -(-len(self.order) // self.batch_size)

    def batch(self, step: int) -> Tensor:
        """The indices of the images of one step; steps count from 0."""
        return self.order[step * self.batch_size : (step + 1) * self.batch_size]


@dataclass(frozen=True)
class Metrics:
    """Sums over images: of their losses, of the right answers, and how many there were."""

    loss: float = 0.0
    correct: int = 0
    count: int = 0

    @property
    def mean_loss(self) -> float:
        """The mean loss of an image."""
        return self.loss / self.count

    @property
    def accuracy(self) -> float:
        """The share of right answers, 0 to 1."""
        return self.correct / self.count


@dataclass(frozen=True)
class Times:
    """Seconds spent getting batches ready, and computing the steps."""

    data: float = 0.0
    compute: float = 0.0


@dataclass(frozen=True)
class Notice:
    """Something an engine has to tell; ``kind`` is a word for programs.

    ``out-of-memory``: from here on batches are computed in parts. ``batch-statistics``: which
    changes the mathematics of this network. ``precision``: what ``auto`` has chosen. ``engine``:
    the CUDA engine computes as the eager one, and why. ``processes``: several share the batches.
    ``random``: the network draws from generators that the process shares.
    """

    kind: str
    message: str


def nothing() -> None:
    """Nothing to do between the batches of a test."""


@dataclass(frozen=True)
class Job:
    """What an engine is made for.

    Attributes:
        network: trained in place.
        recipe: what to compute.
        train: the training images.
        test: the test images.
        device: where to compute.
        micro_batch: images to compute at a time in training; ``None``: the whole batch.
        processes: the process group to compute with.
        notices: what there is to tell of how the job came about.
        draws: where the network's random numbers come from; ``None``: not known.
    """

    network: nn.Module
    recipe: Recipe
    train: Split
    test: Split
    device: torch.device
    micro_batch: int | None = None
    processes: ProcessGroup = SINGLE_PROCESS
    notices: tuple[Notice, ...] = ()
    draws: Source | None = None


class Engine(Protocol):
    """The one seam for speed.

    The loop hands an engine a stretch of an epoch, several steps long, together with the tally so
    far, and gets the tally back; in between the engine may capture, fuse or split as it likes, and
    nothing forces it to wait for the device. Where an epoch is cut into stretches changes nothing:
    the sums run on, in order, in float64 where the device has it.

    Attributes:
        recipe: what is computed, with ``auto`` precision resolved.
        micro_batch: images computed at a time in training; the recipe's batch size where the whole
            batch is. It falls when memory runs out, and may be set before the first step.
        test_batch: likewise in a test.
        coverage: which layers run in compiled kernels of ours; the default where PyTorch has all.
        checks_steps: whether a stretch ends with the step whose loss is no finite number.
    """

    name: str
    network: nn.Module
    recipe: Recipe
    micro_batch: int
    test_batch: int
    coverage: Coverage
    checks_steps: bool

    def train(self, epoch: Epoch, first: int, stop: int, tally: Metrics) -> tuple[Metrics, Times]:
        """Do the steps ``first`` to ``stop - 1`` of ``epoch`` and add them to ``tally``."""

    def evaluate(self, between: Callable[[], None] = nothing) -> Metrics:
        """Test on the whole test split, leaving random state and training mode as they were.

        ``between`` is called between batches; what it raises ends the test.
        """

    def set_lr(self, lr: float) -> None:
        """Use another learning rate from the next step on."""

    def workspace(self, count: int, *, training: bool) -> int | None:
        """The bytes that a step or a test on ``count`` images at once takes in the kernels.

        That is beside weights and gradients. ``None`` where it doesn't run in them as a whole: then
        the layers of :meth:`pytorch_network` can be followed.
        """

    def pytorch_network(self) -> nn.Module:
        """The network as PyTorch computes it where the kernels don't: maybe in a faster order."""

    def close(self) -> None:
        """The training is over: the network's weights lie in memory as they did before it."""

    def notices(self) -> list[Notice]:
        """What has happened since this was last asked."""

    def optimizer_state(self) -> dict[str, Tensor]:
        """What the optimizer keeps between steps, as ``<parameter>/<quantity>``; none for SGD.

        The tensors are the optimizer's own: whoever wants to keep them copies them.
        """

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`optimizer_state` gave.

        Raises:
            NetworkError: it belongs to another network.
        """
