"""Passing events on to whoever listens, so that no listener can end a training."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterable
from types import TracebackType

from .events import Event, Listener


class Broadcast:
    """Sends each event to every listener in turn. One that raises is told of once and dropped.

    A context manager: at its end every listener is closed, also when the training failed.
    """

    def __init__(self, listeners: Iterable[Listener]) -> None:
        self._listeners = list(listeners)

    def send(self, event: Event) -> None:
        """Give ``event`` to all listeners that are left."""
        for listener in list(self._listeners):
            try:
                listener.on(event)
            except Exception:
                self._listeners.remove(listener)
                _tell(listener)
                _close(listener)

    def __enter__(self) -> Broadcast:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for listener in self._listeners:
            _close(listener)


def _close(listener: Listener) -> None:
    try:
        listener.close()
    except Exception:
        _tell(listener)


def _tell(listener: Listener) -> None:
    reason = "".join(traceback.format_exception_only(*sys.exc_info()[:2])).strip()
    name = type(listener).__name__
    # Whoever listened may have failed because stderr is gone; then there is nobody to tell.
    with contextlib.suppress(OSError, ValueError):
        print(
            f"{name} failed and is left out from here on; the training goes on.\n  {reason}",
            file=sys.stderr,
        )
