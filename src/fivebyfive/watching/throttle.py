"""How often to redraw: seldom enough for the eye, and never at the training's cost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


class Throttle:
    """Says when the next redraw is due.

    Events arrive in the training's own thread, so every redraw holds the training up. After one
    that took ``t`` seconds the next waits for ``least`` or ``t / share`` seconds, whichever is
    longer; drawing thus takes at most about ``share`` of the time, on a slow machine too.
    """

    def __init__(
        self, least: float, share: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._least, self._share, self._clock = least, share, clock
        self._next = clock()

    def due(self) -> bool:
        """Whether enough time has passed."""
        return self._clock() >= self._next

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Put this around a redraw: it measures what the redraw costs."""
        start = self._clock()
        yield
        end = self._clock()
        self._next = end + max(self._least, (end - start) / self._share)
