"""What a training tells its listeners, in the order it happens.

``Started``, then for each epoch some ``ChunkDone``, an ``EpochDone`` and perhaps a ``Noticed``, at
last ``Finished`` or ``Stopped``. In between ``Paused``, ``Resumed`` and ``LearningRateChanged``
where a :class:`~fivebyfive.training.control.Control` asked for it. Epochs count from 1. Rates are
in images per second: ``images_per_s`` is with data loading (order, gathering, conversion, the
steps, and the listeners between them), ``images_per_s_compute`` leaves the data out, as the book's
printed figure does; ``data_share`` is the part of the training time spent on data, 0 to 1. Neither
rate counts the time of evaluation or of a pause.

Each event's :meth:`~_Event.as_dict` is plain JSON; docs/events.md lists all its keys.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ..recipes import Recipe


class _Event:
    """What all events share."""

    def as_dict(self) -> dict[str, Any]:
        """The event as strict JSON values, its kind (``chunk-done``, say) as ``event``.

        A number that isn't finite (a training that diverged) is ``None``.
        """
        kind = re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()
        values: dict[str, Any] = _json({"event": kind, **asdict(self)})  # type: ignore[call-overload]
        return values


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


@dataclass(frozen=True)
class Speed:
    """How fast, over the training time so far."""

    images_per_s: float
    images_per_s_compute: float
    data_share: float


@dataclass(frozen=True)
class Started(_Event):
    """Everything is in place; the first step comes next."""

    recipe: Recipe
    run: Path | None
    device: str
    device_title: str  # what a person calls it: the processor's or the card's name
    engine: str
    data: str
    data_source: str
    notice: str | None
    train_images: int
    test_images: int
    classes: tuple[str, ...]
    steps: int  # in each epoch
    parameters: int
    memory: str | None = None  # what the training will take, in words
    kernels: str | None = None  # which layers run in the compiled kernels, in words
    resumed: str | None = None  # where a training goes on that was begun before, in words
    position: float = 0.0  # epochs done before, with the part of the current one
    past: tuple[dict[str, Any], ...] = ()  # their rows of metrics.jsonl


@dataclass(frozen=True)
class ChunkDone(_Event):
    """A few steps are done. Loss and accuracy are means over this epoch's images so far.

    ``mark`` is true at the points, about five an epoch, where the book's figures have a dot, and
    false in between; curves and logs take the marks, progress bars take all.
    """

    epoch: int
    step: int  # steps done in this epoch
    steps: int
    images: int  # trained on in this epoch
    train_loss: float
    train_acc: float
    speed: Speed
    mark: bool

    @property
    def position(self) -> float:
        """Epochs done, with the part of this one: the x of the curves."""
        return self.epoch - 1 + self.step / self.steps


@dataclass(frozen=True)
class EpochDone(_Event):
    """An epoch is trained and tested. ``speed`` is of this epoch alone."""

    epoch: int
    epochs: int
    train_loss: float
    train_acc: float
    test_loss: float
    test_acc: float
    test_correct: int
    test_images: int
    speed: Speed
    train_seconds: float
    test_seconds: float


@dataclass(frozen=True)
class Noticed(_Event):
    """Something the user should know; ``kind`` is a word for programs, e.g. ``plateau``."""

    kind: str
    epoch: int
    message: str


@dataclass(frozen=True)
class Result:
    """What a finished training comes to; the keys of ``train --json``. ``seconds`` is the wall
    clock from ``Started`` to ``Finished``, evaluation included.
    """

    run: str | None
    recipe: str
    network: str
    data: str
    device: str
    epochs: int
    train_loss: float
    train_acc: float
    test_loss: float
    test_acc: float
    seconds: float
    images_per_s: float
    images_per_s_compute: float
    data_share: float

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Finished(_Event):
    """The training is over and its weights are final."""

    result: Result
    notice: str | None


@dataclass(frozen=True)
class Stopped(_Event):
    """The training was asked to stop and is kept where it stands, so that it can be resumed."""

    epoch: int
    step: int  # steps done in this epoch


@dataclass(frozen=True)
class Paused(_Event):
    """The training waits to be resumed or stopped."""

    epoch: int
    step: int


@dataclass(frozen=True)
class Resumed(_Event):
    """A paused training continues, after ``seconds``."""

    epoch: int
    step: int
    seconds: float


@dataclass(frozen=True)
class LearningRateChanged(_Event):
    """The steps from here on use another learning rate; a resumed run repeats the change."""

    epoch: int
    step: int
    before: float
    lr: float


Event = (
    Started
    | ChunkDone
    | EpochDone
    | Noticed
    | LearningRateChanged
    | Paused
    | Resumed
    | Stopped
    | Finished
)


class Listener(Protocol):
    """Whoever watches. One that raises is told of once and dropped; the training goes on."""

    def on(self, event: Event) -> None:
        """Take one event; called from the training's own thread, so be quick."""

    def close(self) -> None:
        """The training is over, well or not; called once."""
