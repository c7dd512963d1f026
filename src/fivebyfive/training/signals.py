"""Ending a training from outside (Ctrl-C, SIGTERM, a closed terminal) without losing any of it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

#: Those that ask a program to end; Windows has no SIGHUP.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupted(KeyboardInterrupt):
    """The training was asked to stop. ``signal`` is what asked; the message says what is kept."""

    def __init__(self, asked: signal.Signals, message: str) -> None:
        super().__init__(message)
        self.signal = asked


class StoppedAtOnce(KeyboardInterrupt):
    """The training was asked to stop twice, so nothing is waited for. ``signal`` is what asked."""

    def __init__(self, asked: signal.Signals) -> None:
        super().__init__()
        self.signal = asked


class Stop:
    """Turns the first signal into a wish, which the loop grants where nothing is half done.

    A context manager; inside it ``requested`` is the signal that came, or ``None``. The second
    signal raises :class:`StoppedAtOnce` wherever the program stands. Off the main thread, where
    Python allows no handlers, signals are left to whoever has them.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._may_break = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)
                # Whoever ignores a signal, as nohup does, means it; a handler that isn't Python's
                # couldn't be put back.
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def may_break(self) -> Iterator[None]:
        """In this block a signal raises at once: nothing in it changes the training's state.

        Raises:
            Interrupted: a signal came, in the block or before it.
        """
        try:
            self._may_break = True
            if self.requested is not None:
                raise Interrupted(self.requested, "stopped")
            yield
        finally:
            self._may_break = False

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.requested is not None:
            raise StoppedAtOnce(signal.Signals(number))
        self.requested = signal.Signals(number)
        if self._may_break:
            raise Interrupted(self.requested, "stopped")
