"""The CUDA engine: whole steps, recorded once as CUDA graphs and sent again as a whole.

A graph holds all of a step: gathering the images, making them floats of the right size, forward,
loss, backward, the optimizer, and adding up. It reads which images they are, and which epoch it is,
from memory; all else is the same in every step. What can't be recorded is computed as the eager
engine does it, and a notice says why; see docs/gpu.md.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..lib.private_draws import OtherGenerators
from ..lib.torch_internals import hooked
from .allocator import prepare
from .dropout import keys
from .eager import Eager
from .graphs import CudaGraphs, Graphs, Replay
from .held import holds, same
from .interface import Epoch, Job, Metrics, Notice, Times, nothing
from .out_of_memory import is_out_of_memory
from .rewrites import rewritten
from .sums import read, zeros

#: A step of each size is computed so often before one is recorded: then the libraries have chosen
#: and loaded their kernels, and the optimizer has made its moments, which can't be recorded.
WARM_UP = 2

#: So many steps make one graph where a stretch has as many, as those of small networks do. A
#: stretch takes a fraction of a second, so long steps never come in such numbers.
AT_ONCE = 8

#: Dropouts in a forward, at most.
DROPOUTS = 64


@dataclass(frozen=True)
class Steps:
    """``count`` recorded steps on ``images`` images each."""

    images: int
    count: int
    replay: Replay


class Cuda(Eager):
    """See :class:`~fivebyfive.engines.interface.Engine`."""

    name = "cuda"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        device, most = job.device, AT_ONCE * job.recipe.batch_size
        self.checks_steps = False
        # Only a card has them; elsewhere this is the eager engine.
        self._graphs: Graphs | None = CudaGraphs(device) if device.type == "cuda" else None
        if self._graphs is not None:
            with self._graphs.stream():
                prepare(device)
        self._steps: dict[tuple[int, int], Steps] = {}  # by images in a step, and number of steps
        self._computed: Counter[int] = Counter()  # steps that weren't recorded, by their images
        self._held: list[object] = []  # on the network's modules, when they were recorded
        self._gave_up = False
        # What recorded steps read and write.
        self._indices = torch.zeros(most, dtype=torch.int64, device=device)
        self._keys, self._epoch = torch.zeros(DROPOUTS, dtype=torch.int64, device=device), 0
        self._sums = zeros(self._device)

    def train(self, epoch: Epoch, first: int, stop: int, tally: Metrics) -> tuple[Metrics, Times]:
        """Do the steps ``first`` to ``stop - 1`` of ``epoch`` and add them to ``tally``."""
        if self._graphs is None:
            return super().train(epoch, first, stop, tally)
        times = Times()
        with self._graphs.stream():
            self._move_to(epoch.number)
            while first < stop:
                self._check()
                if self._recorded(epoch, first, stop) is not None:
                    done, tally, more = self._replay(epoch, first, stop, tally)
                else:
                    done = stop if self._gave_up else first + 1
                    tally, more = super().train(epoch, first, done, tally)
                    self._computed[len(epoch.batch(first))] += 1
                times = Times(times.data + more.data, times.compute + more.compute)
                first = done
        return tally, times

    def _replay(
        self, epoch: Epoch, first: int, stop: int, tally: Metrics
    ) -> tuple[int, Metrics, Times]:
        """Do steps as long as they are recorded; also the first step not done."""
        step, count = first, tally.count
        self._sums[0], self._sums[1] = tally.loss, tally.correct
        self._watch.compute()
        while step < stop and (steps := self._recorded(epoch, step, stop)) is not None:
            begin, images = step * epoch.batch_size, steps.count * steps.images
            self._indices[:images] = epoch.order[begin : begin + images]
            steps.replay()
            step, count = step + steps.count, count + images
        self._watch.stop()
        return step, read(self._sums, count), self._watch.read()

    def _recorded(self, epoch: Epoch, step: int, stop: int) -> Steps | None:
        """What does the next steps, several where that may be; ``None`` if they are computed."""
        images, last = len(epoch.batch(step)), step + AT_ONCE - 1
        if self._gave_up or self._computed[images] < WARM_UP:
            return None
        count = AT_ONCE if last < stop and len(epoch.batch(last)) == images else 1
        if (images, count) not in self._steps:
            try:
                self._steps[images, count] = Steps(images, count, self._capture(images, count))
            # The same code has just run, so whatever it is now comes from the recording.
            except Exception as error:
                self._give_up(f"a step can't be recorded ({_reason(error)})")
                return None
        return self._steps[images, count]

    def _capture(self, images: int, count: int) -> Replay:
        assert self._graphs is not None
        self.optimizer.zero_grad()  # what is free now is given back before a recording begins
        try:
            with self._precision_context.stepping(), capturable(self.optimizer):
                return self._graphs.capture(functools.partial(self._compute, images, count))
        finally:
            self.optimizer.zero_grad()  # these gradients lie in the graph's memory

    def _compute(self, images: int, count: int) -> None:
        """``count`` steps as the eager engine does them, on ``images`` of the indices each."""
        for indices in self._indices[: count * images].split(images):
            self.optimizer.zero_grad()
            pixels = self._pixels(self._train.images[indices])
            with self._dropout(self._keys, indices):
                super()._learn(pixels, self._train.labels[indices], images, self._sums)
            self.optimizer.step()

    def _learn(self, images: Tensor, labels: Tensor, whole: float, sums: Tensor) -> None:
        """As the eager engine does it, but watched for what hinders graphs."""
        if self._graphs is None or self._gave_up:
            super()._learn(images, labels, whole, sums)
            return
        others, held = OtherGenerators(self.network), holds(self.network)
        super()._learn(images, labels, whole, sums)
        if self._draws.drew or others.moved():
            self._give_up("the network draws random numbers of its own")
        elif not same(holds(self.network), held):
            self._give_up("the network keeps something from one step to the next")

    def _move_to(self, epoch: int) -> None:
        """Tell recorded steps which epoch it is."""
        if self._foreign and epoch != self._epoch:
            self._keys.copy_(keys(self.recipe.seed, epoch, DROPOUTS))
            self._epoch = epoch

    def pytorch_network(self) -> nn.Module:
        """See :class:`~fivebyfive.engines.interface.Engine`."""
        return rewritten(self.network)

    def _module(self) -> nn.Module:
        return self.pytorch_network()

    def _check(self) -> None:
        """Give up, or record anew, where the next step can't be one of those recorded so far."""
        if self.micro_batch < self.recipe.batch_size:
            self._give_up("batches are computed in parts")
        elif any(map(hooked, self.network.modules())):
            self._give_up("there are hooks on the network's modules")
        elif not same(self._held, held := holds(self.network)):
            self._forget()
            self._held = held

    def _give_up(self, reason: str) -> None:
        """Compute eagerly for the rest of the run."""
        if self._gave_up:
            return
        self._gave_up = True
        self._forget()
        message = f"from here on without CUDA graphs, as the eager engine computes: {reason}."
        self._notices.append(Notice("engine", message))

    def _make_room(self) -> None:
        self._forget()  # they are recorded again where memory allows it
        super()._make_room()

    def _forget(self) -> None:
        self._steps.clear()
        if self._graphs is not None:
            self._graphs.forget()

    def set_lr(self, lr: float) -> None:
        """Use another learning rate from the next step on."""
        super().set_lr(lr)
        self._forget()  # graphs hold the one that they were recorded with

    def evaluate(self, between: Callable[[], None] = nothing) -> Metrics:
        """Test on the whole test split, leaving random state and training mode as they were."""
        with contextlib.nullcontext() if self._graphs is None else self._graphs.stream():
            return super().evaluate(between)

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`optimizer_state` gave."""
        super().load_optimizer_state(state)
        self._forget()  # graphs know the state by where it was


@contextlib.contextmanager
def capturable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Tell Adam that it is being recorded; it warns when told so at other times."""
    groups = [group for group in optimizer.param_groups if "capturable" in group]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = False


def _reason(error: BaseException) -> str:
    """What went wrong, in a line: the first of the errors, if one led to another."""
    while error.__context__ is not None:
        error = error.__context__
    if is_out_of_memory(error):
        return "out of memory"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
