"""The eager engine in one of several processes, each of which computes its share of every batch.

PyTorch's DistributedDataParallel brings the gradients together while they are being computed. Each
image's loss is divided by the size of the whole batch, so their sum is the gradient of the recipe's
batch, and every process takes the same step, however the batch is split and whether or not it
divides.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..lib.errors import OutOfMemoryError
from .eager import Eager
from .interface import Epoch, Job, Metrics, Notice, Times, nothing
from .micro_batches import warnings
from .out_of_memory import is_out_of_memory
from .process_group import TIMEOUT
from .sums import zeros


class Distributed(Eager):
    """See :class:`~fivebyfive.engines.interface.Engine`; all processes have to call alike.

    Weights, buffers and the optimizer's state are those of the main process from the first use on.
    """

    def __init__(self, job: Job) -> None:
        whole, size = job.recipe.batch_size, job.processes.size
        message = f"{size} processes share each batch, with the eager engine."
        notices = (Notice("processes", message), *warnings(job.network, -(-whole // size), whole))
        if job.device.type == "cuda":
            torch.cuda.set_device(job.device)  # NCCL uses the current one
        super().__init__(dataclasses.replace(job, notices=(*job.notices, *notices)))
        self._processes = job.processes
        self.checks_steps = False  # where one stopped the others would wait for it
        self._idle = False

    @functools.cached_property
    def _parallel(self) -> DistributedDataParallel:
        """The network, whose backward takes the mean of all processes' gradients."""
        kind = "nccl" if self._device.type == "cuda" else "gloo"
        group = dist.new_group(backend=kind, timeout=TIMEOUT)
        self.load_optimizer_state(self._processes.share(self.optimizer_state()))
        self.micro_batch = self._processes.exchange(self.micro_batch)[0]
        return DistributedDataParallel(self.network, process_group=group)

    def train(self, epoch: Epoch, first: int, stop: int, tally: Metrics) -> tuple[Metrics, Times]:
        """Do the steps ``first`` to ``stop - 1`` of ``epoch`` and add them to ``tally``."""
        with self._together():
            found, times = super().train(epoch, first, stop, Metrics())
        return self._sum(found, tally), times

    def evaluate(self, between: Callable[[], None] = nothing) -> Metrics:
        """Test on the whole test split, leaving random state and training mode as they were."""
        with self._together():
            for name, value in self._processes.share(dict(self.network.named_buffers())).items():
                self.network.get_buffer(name).copy_(value)
        return self._sum(super().evaluate(between), Metrics())

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """What all do together, each at its first use after the main process's state has come."""
        with self._processes.noticing():
            _ = self._parallel
            yield

    def _step(self, epoch: Epoch, step: int, at_most: int) -> Tensor:
        """One step; loss and right answers of the images that are computed here.

        Raises:
            OutOfMemoryError: the others wait for these gradients, so it can't be tried again.
        """
        batch = epoch.batch(step)
        self._idle = len(batch) <= self._processes.rank
        try:
            sums = super()._step(epoch, step, at_most)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            images = min(at_most, len(self._share(batch)))
            raise OutOfMemoryError(
                f"process {self._processes.rank} ran out of memory on {self._device} with {images} "
                f"images at a time ({error}). All processes end. Go on with fewer at a time: "
                f"--micro-batch {max(1, images // 2)}."
            ) from error
        return zeros(self._device) if self._idle else sums

    def _learn(self, images: Tensor, labels: Tensor, whole: float, sums: Tensor) -> None:
        """As alone, but scaled so that the mean of all processes' gradients is their sum."""
        whole = math.inf if self._idle else whole / self._processes.size
        super()._learn(images, labels, whole, sums)

    def _share(self, batch: Tensor) -> Tensor:
        """The part of a batch that is this process's.

        Where there are more processes than images, the last ones compute an image that doesn't
        count: they have to take part in every sum of gradients.
        """
        if self._idle:
            return batch[:1]
        return batch.tensor_split(self._processes.size)[self._processes.rank]

    def _accumulating(self, last: bool) -> AbstractContextManager[object]:
        return contextlib.nullcontext() if last else self._parallel.no_sync()

    def _module(self) -> nn.Module:
        return self._parallel if torch.is_grad_enabled() else self.network

    def _test_batches(self) -> range:
        return super()._test_batches()[self._processes.rank :: self._processes.size]

    def _sum(self, found: Metrics, before: Metrics) -> Metrics:
        """Add all processes' sums to those so far; images were counted for the whole group."""
        said = self._processes.exchange([found.loss, found.correct])
        loss = before.loss + sum(loss for loss, _ in said)
        return Metrics(loss, before.correct + sum(c for _, c in said), before.count + found.count)
