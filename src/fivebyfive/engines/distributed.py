"""The eager engine in one of several processes, each of which computes its share of every batch.

PyTorch's DistributedDataParallel adds the gradients up while they are being computed. Each image's
loss is divided by the size of the whole batch, so the sum is the gradient of the recipe's batch,
and every process takes the same step, however the batch is split and whether or not it divides.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..datasets.splits import Split
from ..lib.errors import OutOfMemoryError
from ..recipes import Recipe
from .eager import Eager
from .interface import Epoch, Metrics, Notice, Times, nothing
from .micro_batches import Snapshot, warnings
from .out_of_memory import is_out_of_memory
from .process_group import TIMEOUT, ProcessGroup


class Distributed(Eager):
    """See :class:`~fivebyfive.engines.interface.Engine`; all processes have to call alike.

    Weights, buffers and the optimizer's state are the leader's from the first use on.
    """

    def __init__(
        self,
        processes: ProcessGroup,
        network: nn.Module,
        recipe: Recipe,
        train: Split,
        test: Split,
        device: torch.device,
        micro_batch: int | None = None,
        notices: Iterable[Notice] = (),
    ) -> None:
        share = -(-recipe.batch_size // processes.size)
        told = f"{processes.size} processes share each batch, with the eager engine."
        notices = [
            *notices,
            Notice("processes", told),
            *warnings(network, share, recipe.batch_size),
        ]
        if device.type == "cuda":
            torch.cuda.set_device(device)  # NCCL uses the current one
        super().__init__(network, recipe, train, test, device, micro_batch, notices)
        self._processes = processes
        self.checks_steps = False  # where one stopped the others would wait for it
        self._idle = False
        self._buckets: list[Tensor] = []  # of gradients, as far as this step has added them up

    @functools.cached_property
    def _group(self) -> Any:
        """Who adds up gradients; by now all start from the leader's state."""
        kind = "nccl" if self._device.type == "cuda" else "gloo"
        group = dist.new_group(backend=kind, timeout=TIMEOUT)
        self.load_optimizer_state(self._processes.share(self.optimizer_state()))
        self.micro_batch = self._processes.exchange(self.micro_batch)[0]
        return group

    @functools.cached_property
    def _parallel(self) -> DistributedDataParallel:
        """The network, whose backward adds up the gradients of all processes."""
        parallel = DistributedDataParallel(self.network, process_group=self._group)
        # The leader's were shared just now and are again before a test. In between a forward only
        # writes them, and one that fails can't take part in sharing.
        parallel.broadcast_buffers = False
        parallel.register_comm_hook(None, lambda _, bucket: self._add_up(bucket.buffer()))
        return parallel

    def _add_up(self, gradients: Tensor) -> Any:
        """Sum some of the gradients; without this they would be averaged over the processes."""
        if self._idle:
            gradients.zero_()
        work = dist.all_reduce(gradients, group=self._group, async_op=True)
        self._buckets.append(gradients)
        return work.get_future().then(lambda done: done.value()[0])

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
        """What all do together, each at its first use after the leader's weights have come."""
        with self._processes.noticing():
            parallel = self._parallel
            del parallel  # not held here: it has to go where a step begins anew
            yield

    def _step(self, epoch: Epoch, step: int, at_most: int) -> Tensor:
        """One step; loss and right answers of the images that are computed here."""
        self._idle = len(epoch.batch(step)) <= self._processes.rank
        sums = self._gradients_of_all(epoch, step, at_most)
        self._update()
        return self._zeros() if self._idle else sums

    def _gradients_of_all(self, epoch: Epoch, step: int, at_most: int) -> Tensor:
        """The step's gradients, added up; where memory runs out in one process, all know.

        Who can't compute its gradients adds NaN in their place to the sums that the others wait
        for. So only where there is NaN do they have to ask one another.
        """
        failure, sums = None, self._zeros()
        self._buckets.clear()
        # Otherwise the second forward would do it, which one may not come to.
        self._parallel.reducer._rebuild_buckets()
        try:
            sums = self._gradients(epoch, step, at_most)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = f"process {self._processes.rank}: {error}"
        if failure is not None:
            self._spoil()
        if not self._buckets[-1].view(-1)[0].isfinite():
            failures = [each for each in self._processes.exchange(failure) if each is not None]
            if failures:
                self._start_anew()
                raise MemoryError(failures[0])
        return sums

    def _spoil(self) -> None:
        """Take part in those of a step's sums that are still to come, with NaN."""
        # As DistributedDataParallel's own join() does it for a process that has no more images.
        buckets = self._parallel.reducer._get_zeros_like_grad_buckets()
        rest = buckets[len(self._buckets) :]
        if not rest:
            raise self._gone("after its gradients had been added up")
        self._idle = False  # whose gradients would count for nothing
        for bucket in rest:
            self._add_up(bucket.buffer().fill_(math.nan)).wait()

    def _start_anew(self) -> None:
        """Without what a backward that was cut short has left behind in the parallel network."""
        del self._parallel
        gc.collect()  # it is part of a cycle, and takes its hooks off the parameters when it goes

    def _update(self) -> None:
        """The optimizer's step, which the others have already done or are about to do."""
        undo = Snapshot(self.network, self.optimizer)
        for attempt in range(2):
            try:
                super()._update()
                return
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if attempt:
                    raise self._gone(f"in the optimizer's step ({error})") from error
            undo.moments()
            self._make_room()

    def _share(self, batch: Tensor) -> Tensor:
        """The part of a batch that is this process's.

        Where there are more processes than images, the last ones compute an image that doesn't
        count: they have to take part in every sum of gradients.
        """
        return (
            batch[:1]
            if self._idle
            else batch.tensor_split(self._processes.size)[self._processes.rank]
        )

    def _accumulating(self, last: bool) -> AbstractContextManager[object]:
        return contextlib.nullcontext() if last else self._parallel.no_sync()

    def _module(self) -> nn.Module:
        return self._parallel if torch.is_grad_enabled() else self.network

    def _test_batches(self) -> range:
        return super()._test_batches()[self._processes.rank :: self._processes.size]

    def _sum(self, found: Metrics, before: Metrics) -> Metrics:
        """Add all processes' sums to those so far; images were counted for the whole team."""
        said = self._processes.exchange([found.loss, found.correct])
        loss = before.loss + sum(loss for loss, _ in said)
        return Metrics(loss, before.correct + sum(c for _, c in said), before.count + found.count)

    def _gone(self, when: str) -> OutOfMemoryError:
        """What to say where the others can't be asked to do a step again."""
        return OutOfMemoryError(
            f"process {self._processes.rank} ran out of memory on {self._device} {when}, where the "
            f"others can't turn back. Go on with fewer images at a time: --micro-batch "
            f"{max(1, self.micro_batch // 2)}."
        )
