"""For pipes, log files and CI: one line an epoch, plain text, no control characters."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from ..training.events import EpochDone, Event, Finished, Noticed, Started
from . import wording
from .position import Position


class Lines:
    """Writes a header, a line an epoch, notices as they come, and the summary."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._progress = Position(clock)

    def on(self, event: Event) -> None:
        """Write what the event is worth, and flush, so that a log can be followed."""
        self._progress.add(event)
        match event:
            case Started():
                self._write(*(f"{label}: {text}" for label, text in wording.header(event)))
                self._notice(event.notice)
            case EpochDone():
                self._write(self._epoch(event))
            case Noticed():
                self._notice(event.message)
            case Finished():
                self._write(*wording.summary(event.result))
                self._notice(event.notice)
            case _:  # a ChunkDone is for those who can redraw
                if line := wording.control(event):
                    self._write(line)

    def close(self) -> None:
        """Everything is written already; the stream belongs to the caller."""

    def _epoch(self, event: EpochDone) -> str:
        width = len(str(event.epochs))
        return (
            f"epoch {event.epoch:{width}}/{event.epochs}: {wording.figures(event)} · "
            f"{wording.speeds(event.speed)} · {self._progress.time}"
        )

    def _notice(self, message: str | None) -> None:
        if message:
            self._write(f"NOTICE: {wording.printable(message)}")

    def _write(self, *lines: str) -> None:
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()
