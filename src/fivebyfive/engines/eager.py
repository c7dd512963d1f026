"""The plain PyTorch engine: right on every device, and the yardstick for the others.

What makes it faster than the textbook loop changes no mathematics: images stay on the device as
bytes and a whole batch is gathered and converted at once, large buffers are kept between steps, the
optimizer runs fused, and nothing is read from the device before a stretch is over.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from ..datasets.pixels import Pixels
from ..lib.losses import LOSSES
from ..lib.modes import in_mode
from ..lib.private_draws import PrivateDraws, Source
from ..lib.randomness import STEP, TEST, derive, process_seeded
from .allocator import prepare, release, trim
from .coverage import Coverage
from .dropout import SHARED, DropoutByImage, may_drop
from .interface import Epoch, Job, Metrics, Notice, Times, nothing
from .layout import lay_back, lay_out
from .micro_batches import (
    Snapshot,
    checked,
    in_parts,
    parts,
    test_in_parts,
    until_it_fits,
    warnings,
)
from .optimizer import States, load_named_state, make_optimizer, named_state
from .parameters import Parameters
from .precision import PrecisionContext
from .stopwatch import Stopwatch
from .sums import add, read, zeros

#: Images that are tested at once, if they don't come to more values than that: a test of large
#: images needn't take more memory than the training.
TEST_BATCH, TEST_VALUES = 500, 1 << 22
#: Steps after which a number of images at a time is known to fit: the second one is the first that
#: finds the optimizer's moments in memory.
FIRST_STEPS = 2


class Eager:
    """See :class:`~fivebyfive.engines.interface.Engine`."""

    name = "eager"
    coverage = Coverage()

    def __init__(self, job: Job) -> None:
        network, recipe, device = job.network, job.recipe, job.device
        self.recipe, self._lr = recipe, recipe.lr
        self.micro_batch = checked(job.micro_batch, recipe.batch_size)
        self._precision_context = PrecisionContext(recipe.precision, device)
        prepare(device)
        self.network = network.to(device)
        if not network.training:
            # Parts in evaluation mode are frozen on purpose; a whole network is just from a test.
            network.train()
        self._device = device
        self._parameters = Parameters(self.network)
        self.checks_steps = device.type == "cpu"  # reading the loss would hold a card up
        self._loss = LOSSES[recipe.loss]
        self._pixels = Pixels(recipe.resize, recipe.mean, recipe.std)
        self._train, self._test = job.train.to(device), job.test.to(device)
        self._watch = Stopwatch(device)
        self._foreign = may_drop(network) or job.draws not in (None, Source.NONE)
        self._source = job.draws or (Source.PRIVATE if self._foreign else Source.NONE)
        self._draws = PrivateDraws(0)
        self._silent = False  # whether the coming forward is known to draw nothing
        self._few = self._pixels(self._train.images[:2])
        self._usual = lay_out(network, self._few)
        self.test_batch = max(1, min(TEST_BATCH, TEST_VALUES // max(1, self._few[:1].numel())))
        self._fitted: Counter[int] = Counter()  # steps done, by images at a time
        self._too_many = 0  # images at a time that memory ran out at, until it is told
        self._notices = [*job.notices, *warnings(network, self.micro_batch, recipe.batch_size)]
        if self._source is Source.PROCESS:
            self._notices.append(Notice("random", SHARED))

    def workspace(self, count: int, *, training: bool) -> int | None:  # noqa: ARG002
        """See :class:`~fivebyfive.engines.interface.Engine`."""
        return None

    def pytorch_network(self) -> nn.Module:
        """See :class:`~fivebyfive.engines.interface.Engine`."""
        return self.network

    @functools.cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """The recipe's, over the network's parameters."""
        return make_optimizer(self.recipe.optimizer, self.network, self._lr)

    def set_lr(self, lr: float) -> None:
        """Use another learning rate from the next step on."""
        self._lr = lr
        if "optimizer" in vars(self):  # it is made when it is first used
            for group in self.optimizer.param_groups:
                group["lr"] = lr

    def train(self, epoch: Epoch, first: int, stop: int, tally: Metrics) -> tuple[Metrics, Times]:
        """Do the steps ``first`` to ``stop - 1`` of ``epoch`` and add them to ``tally``."""
        self._parameters.check(self.network)
        sums, count = zeros(self._device), tally.count
        sums[0], sums[1] = tally.loss, tally.correct
        with self._precision_context.stepping():
            for step in range(first, stop):
                images = len(epoch.batch(step))
                at_most = min(self.micro_batch, images)
                compute = functools.partial(self._step, epoch, step)
                found, fits = until_it_fits(
                    compute, at_most, self._device, self._undo(at_most), self._make_room
                )
                self._fitted[fits] += 1
                if fits < at_most:
                    self._compute_in_parts(at_most, fits)
                sums += found
                count += images
                if self.checks_steps and not sums[0].isfinite():
                    break
        return read(sums, count), self._watch.read()

    def _undo(self, at_most: int) -> Callable[[], None]:
        """What puts back what a step with ``at_most`` images at a time, which fails, may change.

        Where as many have fitted before, only the gradients: a copy of the buffers at every step
        would cost more than the few running statistics are worth that would count a batch twice.
        """
        if self._fitted[at_most] < FIRST_STEPS:
            return Snapshot(self.network, self.optimizer)
        return self.optimizer.zero_grad

    def _step(self, epoch: Epoch, step: int, at_most: int) -> Tensor:
        """One step, with ``at_most`` images at a time; its loss and right answers."""
        sums, batch = zeros(self._device), epoch.batch(step)
        self.optimizer.zero_grad()
        split = parts(self._share(batch), at_most)
        for part, indices in enumerate(split):
            # What a forward draws depends on where we are and not on what happened before.
            place = (epoch.number, step, part) if part else (epoch.number, step)
            self._watch.data()
            images = self._pixels(self._train.images[indices])
            labels = self._train.labels[indices]
            self._look(images)
            self._watch.compute()
            last = part + 1 == len(split)
            with (
                self._drawing(STEP, *place),
                self._accumulating(last),
                self._dropout(epoch.number, indices),
            ):
                self._learn(images, labels, len(batch), sums)
        self.optimizer.step()
        self._watch.stop()
        return sums

    def _learn(self, images: Tensor, labels: Tensor, whole: float, sums: Tensor) -> None:
        """Add gradients, loss and right answers of some of the ``whole`` images of a batch."""
        scores = self._forward(images)
        loss = self._loss(scores, labels, reduction="sum") / whole
        add(sums, scores.detach(), labels, loss.detach() * whole)
        loss.backward()

    @torch.no_grad()
    def evaluate(self, between: Callable[[], None] = nothing) -> Metrics:
        """Test on the whole test split, leaving random state and training mode as they were."""
        sums = zeros(self._device)
        with in_mode(self.network, training=False), self._other_buffers():
            for first in self._test_batches():
                at_most = min(self.test_batch, len(self._test) - first)
                compute = functools.partial(self._test_batch, first, between)
                found, fits = until_it_fits(compute, at_most, self._device, self._make_room)
                if fits < at_most:
                    self.test_batch = fits
                    self._notices.append(test_in_parts(at_most, fits))
                sums += found
        return read(sums, len(self._test))

    @contextlib.contextmanager
    def _other_buffers(self) -> Iterator[None]:
        """Without this a test's buffers would lie between and on top of those of the training."""
        on_cpu = self._device.type == "cpu"
        if on_cpu:
            trim()
        yield
        if on_cpu:
            trim()

    def _test_batch(self, first: int, between: Callable[[], None], at_most: int) -> Tensor:
        """Loss and right answers of a batch of test images, ``at_most`` at a time."""
        sums = zeros(self._device)
        batch = slice(first, first + TEST_BATCH)
        split = (parts(each[batch], at_most) for each in (self._test.images, self._test.labels))
        with self._drawing(TEST, first):
            for stored, labels in zip(*split, strict=True):
                between()  # which may take as long as a pause
                images = self._pixels(stored)
                self._look(images)
                with self._precision_context.stepping():
                    scores = self._forward(images)
                    add(sums, scores, labels, self._loss(scores, labels, reduction="sum"))
        return sums

    def close(self) -> None:
        """See :class:`~fivebyfive.engines.interface.Engine`."""
        lay_back(self._usual)

    def notices(self) -> list[Notice]:
        """What has happened since this was last asked."""
        notices, self._notices = self._notices, []
        if self._too_many:
            whole = self.recipe.batch_size
            notices.append(in_parts(self._too_many, self.micro_batch, whole))
            notices += warnings(self.network, self.micro_batch, whole)
            self._too_many = 0
        return notices

    def _compute_in_parts(self, tried: int, fits: int) -> None:
        """Remember for the rest of the run that ``tried`` images at a time were too many."""
        self.micro_batch = fits
        self._too_many = self._too_many or tried

    def _make_room(self) -> None:
        """Give back the memory that is kept but not in use."""
        release(self._device)

    def _forward(self, images: Tensor) -> Tensor:
        """The network's scores, in float32 whatever it computes in."""
        unwatched = self._silent or self._source is Source.NONE
        private = contextlib.nullcontext() if unwatched else self._draws
        with self._precision_context.forward(), private:
            scores: Tensor = self._module()(images)
        return scores.float()

    def _look(self, images: Tensor) -> None:
        """Before a forward, with nothing around it that watches what it does."""

    def _module(self) -> Callable[[Tensor], Tensor]:
        return self.network

    # One of several processes computes less; see distributed.py.

    def _share(self, batch: Tensor) -> Tensor:
        """The part of a batch's indices that is computed here."""
        return batch

    def _accumulating(self, last: bool) -> AbstractContextManager[object]:  # noqa: ARG002
        """Around forward and backward of a part of the batch, which may be the last."""
        return contextlib.nullcontext()

    def _test_batches(self) -> range:
        """Where those batches of test images begin that are computed here."""
        return range(0, len(self._test), TEST_BATCH)

    def _dropout(self, epoch: int | Tensor, images: Tensor) -> AbstractContextManager[object]:
        if not self._foreign or self._silent:
            return contextlib.nullcontext()
        return DropoutByImage(self.recipe.seed, epoch, images, self._draws)

    @contextlib.contextmanager
    def _drawing(self, purpose: int, *position: int) -> Iterator[None]:
        """Around a forward and its backward: what it draws depends on where we are alone."""
        if not self._foreign:
            yield
            return
        seed = derive(self.recipe.seed, purpose, *position)
        self._draws = PrivateDraws(seed)
        shared = self._source is Source.PROCESS
        with process_seeded(seed, self._device) if shared else contextlib.nullcontext():
            yield

    def optimizer_state(self) -> dict[str, Tensor]:
        """What the optimizer keeps between steps, as ``<parameter>/<quantity>``; none for SGD."""
        return named_state(self.network, self._states())

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`optimizer_state` gave."""
        load_named_state(self.network, self._states(), state)

    def _states(self) -> States:
        return self.optimizer.state
