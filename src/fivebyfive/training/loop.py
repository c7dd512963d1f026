"""The training loop: one for every network, dataset, engine and device."""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from typing import Protocol

import torch

from ..datasets.splits import Dataset
from ..engines.interface import Engine, Epoch, Metrics
from ..engines.precision import why_unsupported
from ..engines.process_group import SINGLE_PROCESS, ProcessGroup
from ..lib.errors import DivergedError, Interrupted
from ..lib.randomness import epoch_order
from ..recipes import Recipe
from .broadcast import Broadcast
from .control import Control
from .events import (
    ChunkDone,
    EpochDone,
    Finished,
    LearningRateChanged,
    Noticed,
    Paused,
    Result,
    Resumed,
    Started,
    Stopped,
)
from .plateau import Plateau
from .progress import Progress
from .throughput import ChunkSizer, Throughput
from .time_estimate import TimeEstimate

#: The book's figures have this many dots an epoch (and one at its end, where it doesn't divide).
MARKS = 5
#: Seconds between two looks at whether a pause is over.
PAUSE = 0.02


class Checkpointer(Protocol):
    """Saves a training while it runs. What it raises ends the training."""

    def keep(self, progress: Progress) -> None:
        """A chunk of steps is done and told: save if it is time to."""

    def save_now(self, progress: Progress, wait: bool = False) -> None:
        """Save. With ``wait``, return when it is on the disk."""


class NoCheckpointer:
    """A :class:`Checkpointer` that saves nothing: of several processes only the main one does."""

    def keep(self, progress: Progress) -> None:
        """Nothing to do."""

    def save_now(self, progress: Progress, wait: bool = False) -> None:
        """Nothing to do."""


class _Stop(Exception):  # noqa: N818 (no error)
    """The training was asked to stop, by a signal or by its control."""

    def __init__(self, by: signal.Signals | None) -> None:
        super().__init__()
        self.by = by


class Loop:
    """One training, from where it stands to its last step; see :meth:`run`."""

    def __init__(
        self,
        engine: Engine,
        recipe: Recipe,
        data: Dataset,
        device: torch.device,
        broadcast: Broadcast,
        checkpointer: Checkpointer,
        control: Control,
        progress: Progress | None = None,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self._engine = engine
        self._recipe = recipe
        self._data = data
        self._device = device
        self._broadcast = broadcast
        self._checkpointer = checkpointer
        self._control = control
        self._processes = processes
        self._progress = Progress() if progress is None else progress
        self._plateau = Plateau(recipe, len(data.classes), self._progress.plateau_since)
        bf16 = recipe.precision == "fp32" and not why_unsupported("bf16", device)
        self._time_estimate = TimeEstimate(recipe, len(data.train), len(data.test), bf16=bf16)
        self._length = ChunkSizer()
        self._clock = time.perf_counter() - self._progress.seconds

    def run(self, started: Started) -> Result | None:
        """Train up to the recipe's epochs, testing after each one, and tell the listeners.

        Returns:
            What it came to; ``None`` where the control stopped it. Where it stood is saved then.

        Raises:
            DivergedError: the loss is no longer a finite number.
            Interrupted: a signal asked to stop; where the training stood is saved.
        """
        if self._progress.lr is not None:
            self._engine.set_lr(self._progress.lr)
        self._broadcast.send(started)
        try:
            done = self._train_and_test()
        except _Stop as stop:
            self._checkpointer.save_now(self._progress, wait=True)
            if stop.by is not None:
                raise Interrupted(stop.by, f"stopped at {self._progress.place}") from None
            self._broadcast.send(Stopped(self._progress.epoch, self._progress.step))
            return None
        result = self._result(started, done)
        self._broadcast.send(Finished(result, self._data.notice))
        return result

    def _train_and_test(self) -> EpochDone:
        """Do the epochs that are left; what the last one came to."""
        done = self._progress.done
        while self._progress.epoch <= self._recipe.epochs or done is None:
            self._train()
            done = self._test()
            self._broadcast.send(done)
            if notice := self._plateau.notice(done):
                self._broadcast.send(notice)
            self._move(
                epoch=done.epoch + 1,
                step=0,
                tally=Metrics(),
                meter=Throughput(),
                done=done,
                plateau_since=self._plateau.since,
            )
            self._checkpointer.save_now(self._progress)
        return done

    def _train(self) -> None:
        """Do the steps of the epoch that are left."""
        number = self._progress.epoch
        last = time.perf_counter()
        order = epoch_order(self._recipe.seed, number, len(self._data.train))
        epoch = Epoch(number, order.to(self._device), self._recipe.batch_size)
        every = max(1, epoch.steps // MARKS)
        while (step := self._progress.step) < epoch.steps:
            paused, most = self._heed()
            last += paused
            to_mark = every - step % every
            stop = min(step + min(to_mark, most), epoch.steps)
            before = self._progress.tally
            tally, times = self._engine.train(epoch, step, stop, before)
            self._check(tally, f"in epoch {number}, {self._steps(step, stop, before, tally)}")
            now = time.perf_counter()
            spent = (tally.count - before.count, now - last, times)
            self._length.took(stop - step, now - last)
            last = now
            self._move(
                step=stop,
                tally=tally,
                meter=self._progress.meter.plus(*spent),
                total=self._progress.total.plus(*spent),
            )
            chunk = self._chunk(epoch.steps, every)
            self._broadcast.send(chunk)
            if notice := self._time_estimate.notice(chunk):
                self._broadcast.send(notice)
            self._tell_notices()
            self._checkpointer.keep(self._progress)

    def _test(self) -> EpochDone:
        begin = time.perf_counter()
        number, tally = self._progress.epoch, self._progress.tally
        self._stop_if_asked()
        tested = self._engine.evaluate(self._stop_if_asked)
        self._check(tested, f"in the test after epoch {number}")
        self._tell_notices()
        return EpochDone(
            number,
            self._recipe.epochs,
            tally.mean_loss,
            tally.accuracy,
            tested.mean_loss,
            tested.accuracy,
            tested.correct,
            tested.count,
            self._progress.meter.speed(),
            self._progress.meter.wall,
            time.perf_counter() - begin,
        )

    def _move(self, **changes: object) -> None:
        seconds = time.perf_counter() - self._clock
        self._progress = dataclasses.replace(self._progress, seconds=seconds, **changes)  # type: ignore[arg-type]

    def _stop_if_asked(self) -> None:
        """Leave a test. Where others test along, only a signal does; a wish is for all, later."""
        alone = self._processes.size == 1
        if self._control.stopped and (alone or self._control.signal is not None):
            raise _Stop(self._control.signal)

    def _heed(self) -> tuple[float, int]:
        """Do what the control asks for: the seconds of a pause, and how many steps come next.

        Several processes all do what any of them was asked to, at the same step, and train with
        the learning rate of the main one.
        """
        begin, paused = time.perf_counter(), False
        while True:
            asked = self._control
            said = self._processes.exchange(
                (self._length.steps, asked.stopped, asked.signal, asked.paused, asked.lr)
            )
            if any(stopped for _, stopped, *_ in said):
                by = next((number for _, _, number, *_ in said if number is not None), None)
                raise _Stop(None if by is None else signal.Signals(by))
            if not any(pause for *_, pause, _ in said):
                break
            if not paused:
                paused = True
                self._checkpointer.save_now(self._progress, wait=True)
                self._broadcast.send(Paused(self._progress.epoch, self._progress.step))
            time.sleep(PAUSE)
        seconds = time.perf_counter() - begin if paused else 0.0
        if paused:
            self._clock += seconds
            self._broadcast.send(Resumed(self._progress.epoch, self._progress.step, seconds))
        steps, *_, lr = said[0]
        if lr is not None and lr != self._lr:
            self._change(lr)
        return seconds, steps

    @property
    def _lr(self) -> float:
        """The learning rate of the next step."""
        return self._recipe.lr if self._progress.lr is None else self._progress.lr

    def _change(self, lr: float) -> None:
        """Use another learning rate. It is saved before its first step, so a resume repeats it."""
        change = LearningRateChanged(self._progress.epoch, self._progress.step, self._lr, lr)
        self._engine.set_lr(lr)
        self._move(lr=lr)
        self._broadcast.send(change)
        self._checkpointer.save_now(self._progress, wait=True)

    def _chunk(self, steps: int, every: int) -> ChunkDone:
        at = self._progress
        return ChunkDone(
            at.epoch,
            at.step,
            steps,
            at.tally.count,
            at.tally.mean_loss,
            at.tally.accuracy,
            at.total.speed(),
            mark=at.step % every == 0 or at.step == steps,
        )

    def _tell_notices(self) -> None:
        for notice in self._engine.notices():
            self._broadcast.send(Noticed(notice.kind, self._progress.epoch, notice.message))

    def _steps(self, first: int, stop: int, before: Metrics, after: Metrics) -> str:
        """In which step a stretch went wrong."""
        if not self._engine.checks_steps:
            return f"between steps {first + 1} and {stop}"
        return f"at step {first + -(-(after.count - before.count) // self._recipe.batch_size)}"

    def _check(self, tally: Metrics, where: str) -> None:
        if not math.isfinite(tally.loss):
            raise DivergedError(self._lr, tally.loss, where)

    def _result(self, started: Started, done: EpochDone) -> Result:
        speed = self._progress.total.speed()
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
            seconds=time.perf_counter() - self._clock,
            images_per_s=speed.images_per_s,
            images_per_s_compute=speed.images_per_s_compute,
            data_share=speed.data_share,
        )
