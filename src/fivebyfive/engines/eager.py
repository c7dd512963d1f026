"""The plain PyTorch engine: right on every device, and the yardstick for the others.

What makes it faster than the textbook loop changes no mathematics: images stay on the device as
bytes and a whole batch is gathered and converted at once, large buffers are kept between steps, the
optimizer runs fused, and nothing is read from the device before a stretch is over.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn

from ..datasets.pixels import Pixels
from ..datasets.splits import Split
from ..lib.errors import NetworkError
from ..lib.modes import in_mode
from ..lib.private_draws import PrivateDraws, Source
from ..lib.randomness import STEP, TEST, derive, process_seeded
from ..recipes import Optimizer, Recipe
from .allocator import prepare, release, trim
from .coverage import Coverage
from .dropout import DropoutByImage, may_drop
from .interface import Epoch, Metrics, Notice, Times, nothing
from .micro_batches import (
    Snapshot,
    checked,
    in_parts,
    parts,
    test_in_parts,
    until_it_fits,
    warnings,
)
from .out_of_memory import is_out_of_memory
from .precision import PrecisionContext
from .stopwatch import Stopwatch

LOSSES = {"cross-entropy": F.cross_entropy, "nll": F.nll_loss}
#: Images that are tested at once, if they don't come to more values than that: a test of large
#: images needn't take more memory than the training.
TEST_BATCH, TEST_VALUES = 500, 1 << 22

RANDOM = (
    "this network draws random numbers from a generator that the whole process shares. Its result "
    "is the same each time only as long as nothing else draws from it meanwhile, another training "
    "in this process for instance; what it draws by Python's or NumPy's generators isn't seeded."
)


class Eager:
    """See :class:`~fivebyfive.engines.interface.Engine`."""

    name = "eager"
    coverage = Coverage()

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        train: Split,
        test: Split,
        device: torch.device,
        micro_batch: int | None = None,
        notices: Iterable[Notice] = (),
    ) -> None:
        self.recipe, self._lr = recipe, recipe.lr
        self.micro_batch = checked(micro_batch, recipe.batch_size)
        self._precision_context = PrecisionContext(recipe.precision, device)
        prepare(device)
        self.network = network.to(device)
        if not network.training:
            # Parts in evaluation mode are frozen on purpose; a whole network is just from a test.
            network.train()
        self._device = device
        self.checks_steps = device.type == "cpu"  # reading the loss would hold a card up
        self._loss = LOSSES[recipe.loss]
        self._pixels = Pixels(recipe.resize, recipe.mean, recipe.std)
        self._train, self._test = train.to(device), test.to(device)
        self._watch = Stopwatch(device)
        self._foreign = may_drop(network)
        self._source = Source.PRIVATE if self._foreign else Source.NONE
        self._draws = PrivateDraws(0)
        few = self._pixels(self._train.images[:2])
        lay_out(network, few)
        self.test_batch = max(1, min(TEST_BATCH, TEST_VALUES // max(1, few[:1].numel())))
        self._too_many = 0  # images at a time that memory ran out at, until it is told
        self._notices = [*notices, *warnings(network, self.micro_batch, recipe.batch_size)]

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
        sums, count = self._zeros(), tally.count
        sums[0], sums[1] = tally.loss, tally.correct
        with self._precision_context.stepping():
            for step in range(first, stop):
                images = len(epoch.batch(step))
                at_most = min(self.micro_batch, images)
                compute = functools.partial(self._step, epoch, step)
                undo = Snapshot(self.network, self.optimizer)
                found, fits = until_it_fits(compute, at_most, self._device, undo, self._make_room)
                if fits < at_most:
                    self._compute_in_parts(at_most, fits)
                sums += found
                count += images
                if self.checks_steps and not sums[0].isfinite():
                    break
        return read(sums, count), self._watch.read()

    def _step(self, epoch: Epoch, step: int, at_most: int) -> Tensor:
        """One step, with ``at_most`` images at a time; its loss and right answers."""
        sums = self._gradients(epoch, step, at_most)
        self._update()
        return sums

    def _update(self) -> None:
        """The optimizer's part of a step."""
        self.optimizer.step()
        self._watch.stop()

    def _gradients(self, epoch: Epoch, step: int, at_most: int) -> Tensor:
        """All of a step but the optimizer's."""
        sums, batch = self._zeros(), epoch.batch(step)
        self.optimizer.zero_grad()
        split = parts(self._share(batch), at_most)
        for part, indices in enumerate(split):
            # What a forward draws depends on where we are and not on what happened before.
            place = (epoch.number, step, part) if part else (epoch.number, step)
            self._watch.data()
            images = self._pixels(self._train.images[indices])
            labels = self._train.labels[indices]
            self._watch.compute()
            last = part + 1 == len(split)
            with (
                self._drawing(STEP, *place),
                self._accumulating(last),
                self._dropout(epoch.number, indices),
            ):
                self._learn(images, labels, len(batch), sums)
        return sums

    def _learn(self, images: Tensor, labels: Tensor, whole: int, sums: Tensor) -> None:
        """Add gradients, loss and right answers of some of the ``whole`` images of a batch."""
        scores = self._forward(images)
        loss = self._loss(scores, labels, reduction="sum") / whole
        add(sums, scores.detach(), labels, loss.detach() * whole)
        loss.backward()

    @torch.no_grad()
    def evaluate(self, between: Callable[[], None] = nothing) -> Metrics:
        """Test on the whole test split, leaving random state and training mode as they were."""
        sums = self._zeros()
        with (
            in_mode(self.network, training=False),
            self._precision_context.stepping(),
            self._other_buffers(),
        ):
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
        sums = self._zeros()
        batch = slice(first, first + TEST_BATCH)
        split = (parts(each[batch], at_most) for each in (self._test.images, self._test.labels))
        with self._drawing(TEST, first):
            for stored, labels in zip(*split, strict=True):
                between()
                scores = self._forward(self._pixels(stored))
                add(sums, scores, labels, self._loss(scores, labels, reduction="sum"))
        return sums

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
        private = contextlib.nullcontext() if self._source is Source.NONE else self._draws
        with self._precision_context.forward(), private:
            scores: Tensor = self._module()(images)
        return scores.float()

    def _module(self) -> nn.Module:
        return self.network

    # One of several processes computes less; see shared.py.

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
        if not self._foreign:
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

    def draw_from(self, source: Source) -> None:
        """Take it as known where the network's random numbers come from."""
        self._source, self._foreign = source, self._foreign or source is not Source.NONE
        if source is Source.PROCESS:
            self._notices.append(Notice("random", RANDOM))

    def optimizer_state(self) -> dict[str, Tensor]:
        """What the optimizer keeps between steps, as ``<parameter>/<quantity>``; none for SGD."""
        states = self._states()
        return {
            f"{name}/{quantity}": value
            for name, parameter in self.network.named_parameters()
            for quantity, value in states.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`optimizer_state` gave."""
        parameters = dict(self.network.named_parameters())
        states = self._states()
        for key, value in state.items():
            name, _, quantity = key.rpartition("/")
            parameter = parameters.get(name)
            if parameter is None or value.shape not in (parameter.shape, ()):
                raise NetworkError(f"the optimizer's state {key} doesn't fit the network.")
            # A moment lies in memory as its parameter does, as the optimizer itself would lay it.
            like = parameter if value.shape == parameter.shape else value.to(parameter.device)
            states[parameter][quantity] = torch.empty_like(like, requires_grad=False).copy_(value)

    def _states(self) -> MutableMapping[Tensor, dict[str, Any]]:
        return self.optimizer.state

    def _zeros(self) -> Tensor:
        """Room for sums of losses and of right answers."""
        # Apple's devices have no float64.
        exact = torch.float32 if self._device.type == "mps" else torch.float64
        return torch.zeros(2, dtype=exact, device=self._device)


def add(sums: Tensor, scores: Tensor, labels: Tensor, loss: Tensor) -> None:
    """Add a batch's loss (summed over its images) and right answers to ``sums``, on the device."""
    sums[0] += loss
    sums[1] += (scores.argmax(1) == labels).sum()


def read(sums: Tensor, count: int) -> Metrics:
    """Read the sums back: the one wait for the device in a stretch."""
    loss, correct = sums.tolist()
    return Metrics(loss, int(correct), count)


def lay_out(network: nn.Module, images: Tensor) -> None:
    """Lay the weights of convolutions out channels last, where PyTorch is faster.

    A network that can't be run so stays as it was: one that uses ``view`` on a convolution's output
    counts on the usual layout. ``images`` are a few to try it with, on the network's device.
    """
    convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    # A weight that is computed (spectral norm, say) is none, and may change when looked at.
    found = (module._parameters.get("weight") for module in convolutions)
    weights = [weight for weight in found if weight is not None]
    if not weights:
        return
    before = [weight.data for weight in weights]
    for weight in weights:
        weight.data = weight.data.to(memory_format=torch.channels_last)
    try:
        with torch.no_grad(), PrivateDraws(0), in_mode(network, training=False):
            network(images)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        for weight, data in zip(weights, before, strict=True):
            weight.data = data


def make_optimizer(name: Optimizer, network: nn.Module, lr: float) -> torch.optim.Optimizer:
    """The recipe's optimizer over the trainable parameters, fused into one pass."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    kinds: dict[str, type[Any]] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    optimizer: torch.optim.Optimizer = kinds[name](parameters, lr=lr, fused=True)
    return optimizer
