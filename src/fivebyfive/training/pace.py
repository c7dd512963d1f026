"""How fast a training goes, and how long an engine may be left alone."""

from __future__ import annotations

from ..engines.work import Times
from .events import Speed

#: How long a stretch should take, in seconds: short enough for a progress bar to move smoothly.
STRETCH_SECONDS = 0.25


class Meter:
    """Sums images and seconds, and turns them into speeds."""

    def __init__(self) -> None:
        self.images = 0
        self.wall = 0.0
        self._data = 0.0
        self._compute = 0.0

    def add(self, images: int, wall: float, times: Times) -> None:
        """Count ``images`` trained on in ``wall`` seconds, of which ``times`` tells the parts."""
        self.images += images
        self.wall += wall
        self._data += times.data
        self._compute += times.compute

    def speed(self) -> Speed:
        """The speeds so far; zeros before the first image."""
        return Speed(
            self.images / self.wall if self.wall else 0.0,
            self.images / self._compute if self._compute else 0.0,
            min(1.0, self._data / self.wall) if self.wall else 0.0,
        )


class StretchLength:
    """Finds the number of steps that take about :data:`STRETCH_SECONDS`, from the steps done."""

    def __init__(self) -> None:
        self.steps = 1

    def took(self, steps: int, seconds: float) -> None:
        """Learn from a stretch: at most four times as many steps the next time."""
        affordable = int(steps * STRETCH_SECONDS / max(seconds, 1e-9))
        self.steps = max(1, min(affordable, 4 * self.steps))
