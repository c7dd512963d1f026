"""Noticing, within the first steps, that a training will take long, and saying what helps."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..lib.units import duration
from ..recipes import Recipe
from .events import ChunkDone, Noticed

#: Seconds of training to measure before the rest is judged by them.
ENOUGH = 5.0
#: From how many seconds on a training counts as long.
LONG = 20 * 60.0
#: Testing an image costs about this part of training on it: the forward pass without a backward.
TESTING = 1 / 3


class TimeEstimate:
    """Watches the first stretches and speaks up once if the rest will take long.

    The first stretch warms up caches and compilers, so it isn't measured. ``bf16`` says whether
    the recipe could be computed in bf16 here and isn't.
    """

    def __init__(
        self,
        recipe: Recipe,
        train_images: int,
        test_images: int,
        *,
        bf16: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._recipe = recipe
        self._images = (train_images, test_images)
        self._bf16 = bf16
        self._clock = clock
        self._start: tuple[float, float] | None = None  # seconds, and epochs done
        self._settled = False

    def notice(self, chunk: ChunkDone) -> Noticed | None:
        """What there is to say after this stretch, if anything."""
        if self._settled:
            return None
        if self._start is None:
            self._start = self._clock(), chunk.position
            return None
        seconds = self._clock() - self._start[0]
        if seconds < ENOUGH:
            return None
        self._settled = True
        train, _ = self._images
        speed = (chunk.position - self._start[1]) * train / seconds
        left = self._recipe.epochs - chunk.position
        rest = remaining(speed, *self._images, left)
        if rest < LONG:
            return None
        return Noticed("long", chunk.epoch, explain(rest, speed, left, bf16=self._bf16))


def remaining(images_per_s: float, train_images: int, test_images: int, epochs: float) -> float:
    """Seconds that ``epochs`` (whole or not) will take, with the test after each of them."""
    return epochs * (train_images + TESTING * test_images) / images_per_s


def explain(seconds: float, images_per_s: float, epochs: float, *, bf16: bool) -> str:
    """The sentence for a training that goes on for ``seconds`` more, and what would shorten it."""
    count = f"{epochs:.0f} epoch{'s' if round(epochs) != 1 else ''}"
    speed = f"{images_per_s:,.0f}" if images_per_s >= 10 else f"{images_per_s:.2g}"
    ways = ["--precision auto, which tries bf16"] if bf16 else []
    ways += ["fewer --epochs", "--limit N for only the first N images"]
    return (
        f"This will take about {duration(seconds)} for {count} at {speed} images/s. "
        f"What shortens it: {', '.join(ways[:-1])}, or {ways[-1]}."
    )
