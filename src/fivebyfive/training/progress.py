"""Where a training stands: all that the rest of it depends on, beside weights and optimizer.

Order and dropout are functions of the seed and the position, so no random state belongs to it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from ..engines.interface import Metrics
from .events import EpochDone, Speed
from .throughput import Throughput

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """A position in a training, with the sums that run on from there.

    ``epoch`` counts from 1, ``step`` says how many of its steps are done. When all of them are, the
    epoch is trained but not yet tested; when that is done too, the position is step 0 of the next.
    """

    epoch: int = 1
    step: int = 0
    tally: Metrics = field(default_factory=Metrics)
    plateau_since: int | None = None  # see Plateau
    done: EpochDone | None = None  # the last epoch that was trained and tested
    seconds: float = 0.0  # the training has taken so far
    meter: Throughput = field(default_factory=Throughput)  # of this epoch
    total: Throughput = field(default_factory=Throughput)  # of the whole training
    lr: float | None = None  # the learning rate, where it was changed during the training

    @property
    def place(self) -> str:
        """The position in words."""
        if self.step:
            return f"epoch {self.epoch}, after step {self.step}"
        return "the start" if self.epoch == 1 else f"the end of epoch {self.epoch - 1}"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; numbers keep all their digits."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Progress:
        """Read :meth:`as_dict` back.

        Raises:
            ValueError: something is missing, or isn't what it should be.
        """
        try:
            done = values["done"]
            progress = cls(
                epoch=values["epoch"],
                step=values["step"],
                tally=_read(Metrics, values["tally"]),
                plateau_since=values["plateau_since"],
                done=None
                if done is None
                else _read(EpochDone, done, speed=_read(Speed, done["speed"])),
                seconds=values["seconds"],
                meter=_read(Throughput, values["meter"]),
                total=_read(Throughput, values["total"]),
                lr=values.get("lr"),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no position of a training: {error}") from error
        _check(progress)
        lr = progress.lr
        valid_lr = lr is None or (type(lr) in (int, float) and 0 < lr < math.inf)
        if (
            progress.epoch < 1
            or type(progress.plateau_since) not in (int, type(None))
            or not valid_lr
        ):
            raise ValueError("no position of a training: a number isn't what it should be")
        return progress


def _read(kind: type[T], values: Mapping[str, Any], **parts: Any) -> T:
    made = kind(**{**values, **parts})
    _check(made)
    return made


def _check(record: Any) -> None:
    """Refuse a record whose counts aren't whole or whose numbers aren't finite."""
    for field_ in dataclasses.fields(record):
        value = getattr(record, field_.name)
        whole = field_.type == "int" and (type(value) is not int or value < 0)
        number = field_.type == "float" and not (
            type(value) in (int, float) and math.isfinite(value)
        )
        if whole or number:
            raise ValueError(f"no position of a training: {field_.name} is {value!r:.40}")
