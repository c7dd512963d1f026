"""An event as a flat row of figures: for the log, the curves and TensorBoard."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from ..training.events import ChunkDone, EpochDone, Event, LearningRateChanged, Noticed

#: Notices that hang on how fast the machine is: they aren't part of what a run computes.
_OF_THE_CLOCK = ("long",)


def row(event: Event) -> dict[str, Any] | None:
    """The event's row; ``None`` for events that have none."""
    match event:
        case ChunkDone(mark=True):
            values = {"event": "mark", **asdict(event), "position": event.position}
            del values["mark"]
        case EpochDone():
            values = {"event": "epoch", **asdict(event)}
        case LearningRateChanged():
            values = {**event.as_dict(), "event": "lr"}
        case Noticed() if event.kind not in _OF_THE_CLOCK:
            values = {"event": "notice", **asdict(event)}
        case _:
            return None
    values.update(values.pop("speed", {}))
    return {key: _finite(value) for key, value in values.items()}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
