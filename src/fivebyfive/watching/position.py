"""How far a training is, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..lib.units import clock
from ..training.events import ChunkDone, EpochDone, Event, Speed, Started


class Position:
    """The latest state of a training, for listeners that show it.

    Attributes:
        epoch: the epoch the training is in, from 1; 0 before the first step.
        epochs: how many there will be.
        position: epochs done, with the part of this one.
        train_loss: mean over the images of this epoch so far.
        train_acc: likewise, 0 to 1.
        test_acc: of the last tested epoch; ``None`` before.
        speed: over the training so far, or of the epoch just done; ``None`` before the first step.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._begun = 0.0  # where this part of the training started
        self.epoch = 0
        self.epochs = 1
        self.position = 0.0
        self.train_loss = self.train_acc = 0.0
        self.test_acc: float | None = None
        self.speed: Speed | None = None

    def add(self, event: Event) -> None:
        """Take in what an event tells."""
        match event:
            case Started():
                self._start = self._clock()
                self._begun = self.position = event.position
                self.epochs = event.recipe.epochs
            case ChunkDone() | EpochDone():
                self.epoch, self.speed = event.epoch, event.speed
                self.train_loss, self.train_acc = event.train_loss, event.train_acc
                self.position = event.position if isinstance(event, ChunkDone) else event.epoch
                if isinstance(event, EpochDone):
                    self.test_acc = event.test_acc
            case _:
                pass

    @property
    def done(self) -> float:
        """The part of the training that is behind us, 0 to 1."""
        return self.position / self.epochs

    @property
    def time(self) -> str:
        """The time left; once all is done, the time this part of it took; "" before a step is."""
        elapsed = self._clock() - self._start
        if self.done >= 1:
            return clock(elapsed)
        if self.position <= self._begun:
            return ""
        left = (self.epochs - self.position) / (self.position - self._begun)
        return f"{clock(elapsed * left)} left"
