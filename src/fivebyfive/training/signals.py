"""Ending a training by a signal (Ctrl-C, SIGTERM, a closed terminal) without losing any of it."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from ..lib.errors import StoppedAtOnce
from .control import Control

#: Those that ask a program to end; Windows has no SIGHUP.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Signals:
    """Hands the first signal to a training's control, which stops where nothing is half done.

    A context manager. Inside it the second signal raises :class:`StoppedAtOnce` wherever the
    program stands. Off the main thread, where Python allows no handlers, signals are left to
    whoever has them.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for name in _NAMES:
            number = getattr(signal, name, None)
            # Whoever ignores a signal, as nohup does, means it; a handler that isn't Python's
            # couldn't be put back.
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before[number] = signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._control.signal is not None:
            raise StoppedAtOnce(signal.Signals(number))
        self._control.stop_by_signal(signal.Signals(number))
