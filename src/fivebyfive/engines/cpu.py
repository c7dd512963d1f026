"""The CPU engine: the step runs in compiled kernels, one image a SIMD lane.

A network that is a plain chain (blocks of convolution, activation and pooling, then linear layers)
is trained whole in the kernels, from the stored bytes to the updated parameters. Of any other, the
blocks that can be fused are, and the rest runs in PyTorch within the same step, rewritten where
that is faster. It computes what the eager engine computes; see docs/cpu-engine.md.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, fx, nn

from ..datasets.pixels import Pixels
from ..kernels.accelerate import Fused
from ..kernels.analysis import WholeNetwork, refused
from ..kernels.stepper import PlainOptimizer, Stepper, StepSums
from ..lib.private_draws import Source
from ..lib.torch_internals import hooked
from ..optimizers import OPTIMIZERS
from ..recipes import Recipe
from .coverage import coverage_of
from .dropout import DropoutByImage
from .eager import Eager
from .interface import Epoch, Job, Metrics, Notice, Times, nothing
from .optimizer import States
from .out_of_memory import check, is_out_of_memory
from .rewrites import rewritten

CHANGED = (
    "the network was changed in the middle of its training, so its steps no longer run in the "
    "kernels as a whole: from here on PyTorch computes them, with the same optimizer."
)


class Cpu(Eager):
    """See :class:`~fivebyfive.engines.interface.Engine`."""

    name = "cpu"

    def __init__(self, job: Job) -> None:
        network, recipe = job.network, job.recipe
        super().__init__(job)
        # Where memory is short: in training (with gradients: True), in the test (False).
        self._short: set[bool] = set()
        shape = self._pixels.shape(self._train.shape)
        self._resizes = shape != self._train.shape
        self._fused = Fused(network)
        self._run: Callable[[], Tensor] | None = None
        # Graphs that draw nothing; the one that is about to run, and what watches it.
        self._drawless: list[fx.GraphModule] = []
        self._graph: fx.GraphModule | None = None
        self._by_image: DropoutByImage | None = None
        # The kernels compute in float32 only: in bf16 all is PyTorch's, as in the eager engine.
        if recipe.precision == "fp32":
            analysis = self._fused.analyse(self._few)
        else:
            analysis = refused(network, f"precision {recipe.precision}, the kernels' is fp32")
        self._partly = analysis.convolves
        if analysis.convolves and not analysis.operations:
            # One image a lane, the kernels read weights as PyTorch usually lays them out.
            network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.coverage = coverage_of(analysis, recipe.loss, recipe.optimizer)
        whole = analysis.whole if self.coverage.whole else None
        self._stepper = None if whole is None else self._whole_step(whole, shape, recipe)
        self._facts = self._now() if self._stepper else ()

    def _now(self) -> tuple[object, ...]:
        """What the step in the kernels counts on, as it is now."""
        forward = self._fused.view.look(self._few)
        if forward is None:
            return ()
        kinds = [(p.shape, p.dtype, p.requires_grad) for p in self.network.parameters()]
        return (self.network.training, forward.graph, *map(id, forward.inputs), *kinds)

    def _follow_changes(self) -> None:
        """Leave the step in the kernels if a listener has made another network of this one."""
        if self._stepper is not None and not self._watched() and self._now() != self._facts:
            self._leave_kernels()
            self._notices.append(Notice("engine", CHANGED))

    def _whole_step(
        self, whole: WholeNetwork, shape: tuple[int, int, int], recipe: Recipe
    ) -> Stepper | None:
        """The step in the kernels, or ``None`` where the labels aren't all classes."""
        classes = whole.blocks[-1].weight[0]
        labels = torch.cat([self._train.labels, self._test.labels])
        fits = len(labels) > 0 and int(labels.min()) >= 0 and int(labels.max()) < classes
        if not fits:
            return None
        every_byte = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1)
        table = Pixels(None, recipe.mean, recipe.std)(every_byte).flatten()
        rule = OPTIMIZERS[recipe.optimizer].rule
        assert rule is not None
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self._plain = PlainOptimizer(trained, recipe.lr, rule)
        return Stepper(whole, shape, table, self._plain, rule)

    @functools.cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """PyTorch's own, which takes over where the kernels can't go on."""
        optimizer = super().optimizer
        if self._stepper is not None:
            optimizer.state.update(self._plain.state)
        return optimizer

    def _states(self) -> States:
        # Where the whole step runs in the kernels, PyTorch's optimizer need not even be made.
        return super()._states() if self._stepper is None else self._plain.state

    def workspace(self, count: int, *, training: bool) -> int | None:
        """See :class:`~fivebyfive.engines.interface.Engine`."""
        # Parts of a batch, and tests on images that are resized, are PyTorch's.
        if self._stepper is None or (count < self.recipe.batch_size if training else self._resizes):
            return None
        images = count * math.prod(self._pixels.shape(self._train.shape)) if self._resizes else 0
        return 4 * (images + self._stepper.workspace(count, keep=training))

    def pytorch_network(self) -> nn.Module:
        """See :class:`~fivebyfive.engines.interface.Engine`."""
        return rewritten(self.network)

    def train(self, epoch: Epoch, first: int, stop: int, tally: Metrics) -> tuple[Metrics, Times]:
        """Do the steps ``first`` to ``stop - 1`` of ``epoch`` and add them to ``tally``."""
        if self.micro_batch < self.recipe.batch_size:
            self._leave_kernels()
        times = Times()
        self._follow_changes()
        if self._stepper is not None and not self._watched():
            first, tally, times = self._train_in_kernels(self._stepper, epoch, first, stop, tally)
        if first == stop or not math.isfinite(tally.loss):
            return tally, times
        tally, more = super().train(epoch, first, stop, tally)
        return tally, Times(times.data + more.data, times.compute + more.compute)

    def _train_in_kernels(
        self, stepper: Stepper, epoch: Epoch, first: int, stop: int, tally: Metrics
    ) -> tuple[int, Metrics, Times]:
        """Do steps in the kernels as long as there is memory; also the first step not done."""
        sums, count, converting = StepSums(tally.loss, tally.correct), tally.count, 0.0
        step = first
        while step < stop:
            indices = epoch.batch(step)
            try:
                converting += self._step_in_kernels(stepper, indices, sums)
            except (RuntimeError, MemoryError) as error:
                # It was for the workspace: no weight has been written yet.
                check(error, len(indices), self._device)
                self._compute_in_parts(len(indices), len(indices) // 2)
                break
            count += len(indices)
            step += 1
            if not math.isfinite(sums.loss):
                break
        computing = sums.seconds - sums.gather_seconds
        times = Times(converting + sums.gather_seconds, computing)
        return step, Metrics(sums.loss, sums.correct, count), times

    def _step_in_kernels(self, stepper: Stepper, indices: Tensor, sums: StepSums) -> float:
        """One step on the images at ``indices``; the seconds that preparing them took."""
        if not self._resizes:
            stepper.train(self._train.images, self._train.labels, indices, sums)
            return 0.0
        begin = time.perf_counter()
        images, labels = self._pixels(self._train.images[indices]), self._train.labels[indices]
        seconds = time.perf_counter() - begin
        stepper.train(images, labels, None, sums)
        return seconds

    def _compute_in_parts(self, tried: int, fits: int) -> None:
        super()._compute_in_parts(tried, fits)
        self._leave_kernels()

    def _make_room(self) -> None:
        self._short.add(torch.is_grad_enabled())
        self._fused.forget_workspaces()
        super()._make_room()

    def _look(self, images: Tensor) -> None:
        short = torch.is_grad_enabled() in self._short
        partly = self._partly and not short
        watched = self._foreign and self._source is not Source.PROCESS
        run = self._fused.look(images) if partly or watched else None
        self._run = run if partly else None
        self._graph = self._fused.graph if watched else None
        self._silent = any(self._graph is each for each in self._drawless)

    def _forward(self, images: Tensor) -> Tensor:
        scores = super()._forward(images)
        drew = self._draws.drew or (self._by_image is not None and self._by_image.drew)
        graph = self._graph
        # A module that is called as a whole may draw at one time and not at another.
        if graph is not None and not self._silent and not drew and not _calls_modules(graph):
            # It does the same each time: watched no more, which takes microseconds an operation.
            self._drawless = [*self._drawless[-7:], graph]
        return scores

    def _dropout(self, epoch: int | Tensor, images: Tensor) -> AbstractContextManager[object]:
        context = super()._dropout(epoch, images)
        self._by_image = context if isinstance(context, DropoutByImage) else None
        return context

    def _module(self) -> Callable[[Tensor], Tensor]:
        run, self._run = self._run, None
        return rewritten(self.network) if run is None else lambda _: run()

    def _leave_kernels(self) -> None:
        """Train in PyTorch alone, which computes in parts with less memory than the kernels."""
        self._short.add(True)
        if self._stepper is not None:
            _ = self.optimizer  # takes over the moments that are there
            self._stepper = None

    def set_lr(self, lr: float) -> None:
        """Use another learning rate from the next step on."""
        super().set_lr(lr)
        if self._stepper is not None:
            self._plain.param_groups[0]["lr"] = lr

    def evaluate(self, between: Callable[[], None] = nothing) -> Metrics:
        """Test on the whole test split, leaving random state and training mode as they were."""
        self._follow_changes()
        if self._stepper is None or self._resizes or self._watched():
            return super().evaluate(between)
        sums = StepSums()
        try:
            self._stepper.evaluate(self._test.images, self._test.labels, sums)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return Metrics(sums.loss, sums.correct, len(self._test))
        return super().evaluate(between)

    def _watched(self) -> bool:
        """Whether someone listens to a layer or gradient, which only PyTorch's own step tells."""
        heard = (
            p._backward_hooks or p._post_accumulate_grad_hooks for p in self.network.parameters()
        )
        return any(map(hooked, self.network.modules())) or any(heard)


def _calls_modules(graph: fx.GraphModule) -> bool:
    return any(node.op == "call_module" for node in graph.graph.nodes)
