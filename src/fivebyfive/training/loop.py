"""The training loop: one for every network, dataset, engine and device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from ..datasets.splits import Dataset
from ..engines.work import Engine, Epoch, Tally
from ..errors import DivergedError
from ..randomness import epoch_order
from ..recipes import Recipe
from .broadcast import Broadcast
from .events import EpochDone, Finished, Result, Started, Stretch
from .pace import Meter, StretchLength
from .plateau import Plateau

#: The book's figures have this many dots an epoch (and one at its end, where it doesn't divide).
MARKS = 5


class Loop:
    """One training, from the first step to the last; see :meth:`run`."""

    def __init__(
        self,
        engine: Engine,
        recipe: Recipe,
        data: Dataset,
        device: torch.device,
        broadcast: Broadcast,
    ) -> None:
        self._engine = engine
        self._recipe = recipe
        self._data = data
        self._device = device
        self._broadcast = broadcast
        self._length = StretchLength()
        self._total = Meter()

    def run(self, started: Started, after_epoch: Callable[[], None]) -> Result:
        """Train for the recipe's epochs, testing after each one, and tell the listeners.

        ``after_epoch`` is called when an epoch is trained and tested, before the listeners hear
        of it, so that what they are told of is already safe.

        Raises:
            DivergedError: the loss is no longer a finite number.
        """
        begin = time.perf_counter()
        plateau = Plateau(self._recipe, len(self._data.classes))
        self._broadcast.send(started)
        for number in range(1, self._recipe.epochs + 1):
            done = self._epoch(number)
            after_epoch()
            self._broadcast.send(done)
            if notice := plateau.notice(done):
                self._broadcast.send(notice)
        result = self._result(started, done, time.perf_counter() - begin)
        self._broadcast.send(Finished(result, self._data.notice))
        return result

    def _epoch(self, number: int) -> EpochDone:
        meter = Meter()
        trained = self._train(number, meter)
        before = time.perf_counter()
        tested = self._engine.evaluate()
        self._check(tested, f"in the test after epoch {number}")
        return EpochDone(
            number,
            self._recipe.epochs,
            trained.mean_loss,
            trained.accuracy,
            tested.mean_loss,
            tested.accuracy,
            tested.correct,
            tested.count,
            meter.speed(),
            meter.wall,
            time.perf_counter() - before,
        )

    def _train(self, number: int, meter: Meter) -> Tally:
        last = time.perf_counter()
        order = epoch_order(self._recipe.seed, number, len(self._data.train))
        epoch = Epoch(number, order.to(self._device), self._recipe.batch_size)
        every = max(1, epoch.steps // MARKS)
        tally, step = Tally(), 0
        while step < epoch.steps:
            to_mark = every - step % every
            stop = min(step + min(to_mark, self._length.steps), epoch.steps)
            before = tally.count
            tally, times = self._engine.train(epoch, step, stop, tally)
            self._check(tally, f"in epoch {number}, between steps {step + 1} and {stop}")
            now = time.perf_counter()
            for each in (meter, self._total):
                each.add(tally.count - before, now - last, times)
            self._length.took(stop - step, now - last)
            last, step = now, stop
            self._broadcast.send(
                Stretch(
                    number,
                    step,
                    epoch.steps,
                    tally.count,
                    tally.mean_loss,
                    tally.accuracy,
                    self._total.speed(),
                    mark=step % every == 0 or step == epoch.steps,
                )
            )
        return tally

    def _check(self, tally: Tally, where: str) -> None:
        if not math.isfinite(tally.loss):
            raise DivergedError(self._recipe.lr, tally.loss, where)

    def _result(self, started: Started, done: EpochDone, seconds: float) -> Result:
        speed = self._total.speed()
        return Result(
            run=None if started.run is None else str(started.run),
            recipe=self._recipe.name,
            network=self._recipe.network,
            data=self._data.name,
            device=started.device,
            epochs=self._recipe.epochs,
            train_loss=done.train_loss,
            train_acc=done.train_acc,
            test_loss=done.test_loss,
            test_acc=done.test_acc,
            seconds=seconds,
            images_per_s=speed.images_per_s,
            images_per_s_compute=speed.images_per_s_compute,
            data_share=speed.data_share,
        )
