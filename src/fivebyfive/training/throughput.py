"""How fast a training goes, and how long an engine may be left alone."""

from __future__ import annotations

from dataclasses import dataclass

from ..engines.interface import Times
from .events import Speed

#: How long a stretch should take, in seconds: short enough for a progress bar to move smoothly.
CHUNK_SECONDS = 0.25


@dataclass(frozen=True)
class Throughput:
    """Images trained on and the seconds it took: by the clock, on data, and on computing."""

    images: int = 0
    wall: float = 0.0
    data: float = 0.0
    compute: float = 0.0

    def plus(self, images: int, wall: float, times: Times) -> Throughput:
        """With ``images`` more, trained on in ``wall`` seconds, of which ``times`` tells parts."""
        return Throughput(
            self.images + images,
            self.wall + wall,
            self.data + times.data,
            self.compute + times.compute,
        )

    def speed(self) -> Speed:
        """The speeds so far; zeros before the first image."""
        return Speed(
            self.images / self.wall if self.wall else 0.0,
            self.images / self.compute if self.compute else 0.0,
            min(1.0, self.data / self.wall) if self.wall else 0.0,
        )


class ChunkSizer:
    """Finds the number of steps that take about :data:`CHUNK_SECONDS`, from the steps done."""

    def __init__(self) -> None:
        self.steps = 1

    def took(self, steps: int, seconds: float) -> None:
        """Learn from a stretch: at most four times as many steps the next time."""
        affordable = int(steps * CHUNK_SECONDS / max(seconds, 1e-9))
        self.steps = max(1, min(affordable, 4 * self.steps))
