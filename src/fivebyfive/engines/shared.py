"""The eager engine in one of several processes, each of which computes its share of every batch.

PyTorch's DistributedDataParallel adds the gradients up while they are being computed. Each image's
loss is divided by the size of the whole batch, so the sum is the gradient of the recipe's batch,
and every process takes the same step, however the batch is split and whether or not it divides.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..datasets.splits import Split
from ..errors import OutOfMemoryError
from ..recipes import Recipe
from .eager import Eager
from .micro_batches import Undo, warnings
from .out_of_memory import is_out_of_memory
from .team import TIMEOUT, Team
from .work import Epoch, Notice, Tally, Times


class Shared(Eager):
    """See :class:`~fivebyfive.engines.work.Engine`; all processes of ``team`` have to call alike.

    Weights, buffers and the optimizer's state are the leader's from the first use on.
    """

    def __init__(
        self,
        team: Team,
        network: nn.Module,
        recipe: Recipe,
        train: Split,
        test: Split,
        device: torch.device,
        micro_batch: int | None = None,
        news: Iterable[Notice] = (),
    ) -> None:
        share = -(-recipe.batch_size // team.size)
        told = f"{team.size} processes share each batch, with the eager engine."
        news = [*news, Notice("processes", told), *warnings(network, share, recipe.batch_size)]
        if device.type == "cuda":
            torch.cuda.set_device(device)  # NCCL uses the current one
        super().__init__(network, recipe, train, test, device, micro_batch, news)
        self._team = team
        self.checks_steps = False  # where one stopped the others would wait for it
        self._idle = self._trying = False
        self._tried: set[tuple[int, int]] = set()

    @functools.cached_property
    def _parallel(self) -> DistributedDataParallel:
        """The network, whose backward adds up the gradients of all processes."""
        kind = "nccl" if self._device.type == "cuda" else "gloo"
        group = dist.new_group(backend=kind, timeout=TIMEOUT)
        parallel = DistributedDataParallel(self.network, process_group=group)
        parallel.register_comm_hook(None, lambda _, bucket: self._add_up(bucket, group))
        self.load_optimizer_state(self._team.share(self.optimizer_state()))
        self.micro_batch = self._team.exchange(self.micro_batch)[0]
        return parallel

    def _add_up(self, bucket: Any, group: Any) -> Any:
        """Sum some of the gradients; without this they would be averaged over the processes."""
        gradients: Tensor = bucket.buffer()
        if self._idle:
            gradients.zero_()
        work = dist.all_reduce(gradients, group=group, async_op=True)
        return work.get_future().then(lambda done: done.value()[0])

    def train(self, epoch: Epoch, first: int, stop: int, tally: Tally) -> tuple[Tally, Times]:
        """Do the steps ``first`` to ``stop - 1`` of ``epoch`` and add them to ``tally``."""
        with self._together():
            found, times = super().train(epoch, first, stop, Tally())
        return self._sum(found, tally), times

    def evaluate(self) -> Tally:
        """Test on the whole test split, leaving random state and training mode as they were."""
        with self._together():
            for name, value in self._team.share(dict(self.network.named_buffers())).items():
                self.network.get_buffer(name).copy_(value)
        return self._sum(super().evaluate(), Tally())

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """What all do together, each at its first use after the leader's weights have come."""
        with self._team.noticing():
            _ = self._parallel
            yield

    def _step(self, epoch: Epoch, step: int, at_most: int) -> Tensor:
        """One step; loss and right answers of the images that are computed here."""
        images = len(epoch.batch(step))
        self._idle = images <= self._team.rank
        if (images, at_most) not in self._tried:
            self._try(epoch, step, at_most)
            self._tried.add((images, at_most))
        try:
            sums = super()._step(epoch, step, at_most)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(self._explain(error, at_most)) from error
        return self._zeros() if self._idle else sums

    def _try(self, epoch: Epoch, step: int, at_most: int) -> None:
        """Find out whether a step fits everywhere; where it doesn't, all split it further.

        Once the processes add up gradients each waits for the others, and none can turn back. So
        the first step of each size is computed twice, and by each for itself to begin with.
        """
        undo, failure = Undo(self.network, self.optimizer), None
        self._trying = True
        try:
            self._gradients(epoch, step, at_most)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = f"process {self._team.rank}: {error}"
        finally:
            self._trying = False
        undo()
        failures = [each for each in self._team.exchange(failure) if each is not None]
        if failures:
            raise MemoryError(failures[0])

    def _share(self, batch: Tensor) -> Tensor:
        """The part of a batch that is this process's.

        Where there are more processes than images, the last ones compute an image that doesn't
        count: they have to take part in every sum of gradients.
        """
        return batch[:1] if self._idle else batch.tensor_split(self._team.size)[self._team.rank]

    def _accumulating(self, last: bool) -> AbstractContextManager[object]:
        alone = self._trying or not last
        return self._parallel.no_sync() if alone else contextlib.nullcontext()

    def _module(self) -> nn.Module:
        return self._parallel if torch.is_grad_enabled() else self.network

    def _test_batches(self) -> range:
        return super()._test_batches()[self._team.rank :: self._team.size]

    def _sum(self, found: Tally, before: Tally) -> Tally:
        """Add all processes' sums to those so far; images were counted for the whole team."""
        said = self._team.exchange([found.loss, found.correct])
        loss = before.loss + sum(loss for loss, _ in said)
        return Tally(loss, before.correct + sum(c for _, c in said), before.count + found.count)

    def _explain(self, error: Exception, at_most: int) -> str:
        share = -(-self.recipe.batch_size // self._team.size)
        fewer = max(1, min(at_most, share) // 2)
        return (
            f"process {self._team.rank} ran out of memory on {self._device} ({error}), though such "
            f"a step had fitted before. Go on with fewer images at a time: --micro-batch {fewer}."
        )
