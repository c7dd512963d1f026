"""Curves that grow while a training runs: in place in a notebook, as a PNG file elsewhere."""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..lib.files import write_bytes
from ..watching.choice import in_notebook
from .plotting import FIGSIZE, FORMATS, Limits, set_axes
from .tensors import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

#: A PNG file is written anew at most this often, in seconds, and once more when all is drawn.
PATIENCE = 5.0


class Animator:
    """Curves of several values over a common x, redrawn as points are added.

    In a notebook the figure stays in place below its cell. Anywhere else nothing is shown and
    nothing waits: the figure is written to ``animator-1.png`` in the current folder, or to the
    first free number after it, so that no other file is replaced; a line on stderr names it.

    Args:
        xlabel: and the following: see :func:`~fivebyfive.d2l.set_axes`. Where ``xlim`` is given,
            the curves are complete when x reaches its end.
        legend: a name for each curve.
        fmts: matplotlib's format strings, one a curve.
        nrows: rows of axes; the curves go to the first of the axes.
        ncols: columns of axes.
        figsize: in inches.
    """

    def __init__(
        self,
        xlabel: str | None = None,
        ylabel: str | None = None,
        legend: Sequence[str] | None = None,
        xlim: Limits = None,
        ylim: Limits = None,
        xscale: str = "linear",
        yscale: str = "linear",
        fmts: Sequence[str] = FORMATS,
        nrows: int = 1,
        ncols: int = 1,
        figsize: tuple[float, float] = FIGSIZE,
    ) -> None:
        from matplotlib.figure import Figure

        # Not a figure of pyplot's: show() would open a window for it and wait, and pyplot would
        # keep it for ever.
        self.fig = Figure(figsize=figsize)
        self.axes: list[Axes] = list(self.fig.subplots(nrows, ncols, squeeze=False).flat)
        self.X: list[list[float]] = []
        self.Y: list[list[float]] = []
        self.fmts = fmts
        self.config_axes: Callable[[], None] = lambda: set_axes(
            self.axes[0], xlabel, ylabel, xlim, ylim, xscale, yscale, legend
        )
        self._end = xlim[1] if xlim is not None else None
        self._lines: list[Line2D] = []
        self._place = _Cell(self.fig) if in_notebook() else _PngFile(self.fig)
        # Also when the program ends or forgets this animator before the curves are complete.
        weakref.finalize(self, self._place.finish)

    def add(self, x: Any, y: Any) -> None:
        """Add a point to each curve, and redraw.

        Args:
            x: one number for all curves, or one for each.
            y: a number for each curve, or just one; ``None`` leaves that curve as it is.
        """
        ys = list(y) if _is_sequence(y) else [y]
        xs = list(x) if _is_sequence(x) else [x] * len(ys)
        if not self._lines:
            self._start(len(ys))
        for i, (new_x, new_y) in enumerate(zip(xs, ys, strict=False)):
            if new_x is None or new_y is None:
                continue
            self.X[i].append(number(new_x))
            self.Y[i].append(number(new_y))
            self._lines[i].set_data(self.X[i], self.Y[i])
        self.axes[0].relim()
        self.axes[0].autoscale_view()
        self._place.changed()
        if self._end is not None and any(new is not None and new >= self._end for new in xs):
            self._place.finish()

    def _start(self, curves: int) -> None:
        self.X, self.Y = [[] for _ in range(curves)], [[] for _ in range(curves)]
        formats = itertools.islice(itertools.cycle(self.fmts), curves)
        self._lines = [line for fmt in formats for line in self.axes[0].plot([], [], fmt)]
        self.config_axes()


class _Cell:
    """A figure below a notebook's cell, replaced by its newer self."""

    def __init__(self, figure: Figure) -> None:
        self._figure = figure
        self._handle: Any = None

    def changed(self) -> None:
        from IPython.display import display

        image = {"image/svg+xml": _rendered(self._figure, "svg").decode(), "text/plain": "Animator"}
        if self._handle is None:
            self._handle = display(image, raw=True, display_id=True)
        else:
            self._handle.update(image, raw=True)

    def finish(self) -> None:
        """Nothing is ever left to draw."""


class _PngFile:
    """A figure in a file of its own, written now and then and at the end."""

    def __init__(self, figure: Figure) -> None:
        self._figure = figure
        self._path: Path | None = None
        self._written = -PATIENCE
        self._stale = self._failed = False

    def changed(self) -> None:
        self._stale = True
        if time.monotonic() - self._written >= PATIENCE:
            self.finish()

    def finish(self) -> None:
        """Write the figure if the file doesn't show it yet; a full disk ends no training."""
        if not self._stale or self._failed:
            return
        try:
            self._write()
        except OSError as error:
            self._failed = True
            print(f"Animator: the curves can't be written: {error}", file=sys.stderr)
        self._stale = False
        self._written = time.monotonic()

    def _write(self) -> None:
        image = _rendered(self._figure, "png")
        if self._path is not None:
            write_bytes(self._path, image)
            return
        path = _take_free_name("animator", ".png")
        try:
            write_bytes(path, image)
        except OSError:
            path.unlink()
            raise
        self._path = path
        print(f"Animator: curves in {path}", file=sys.stderr)


def _take_free_name(stem: str, suffix: str) -> Path:
    """The first of stem-1, stem-2… that isn't in the current folder; there it is now, empty."""
    for count in itertools.count(1):
        path = Path.cwd() / f"{stem}-{count}{suffix}"
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)
            return path
    raise AssertionError("the numbers never end")


def _rendered(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, bbox_inches="tight", dpi=150)
    return buffer.getvalue()


def _is_sequence(value: Any) -> bool:
    # A tensor has a length by name even where it holds a single number.
    return hasattr(value, "__len__") and getattr(value, "ndim", 1) > 0
