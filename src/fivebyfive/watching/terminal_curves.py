"""Curves made of characters, for a terminal: loss on the left, both accuracies on the right."""

from __future__ import annotations

import math

import plotext  # type: ignore[import-untyped]
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from .curves import Curve, History

#: The colour of each curve and of its figures; names that rich and plotext (with ``+``) share.
LOSS, TRAIN, TEST = "bright_blue", "bright_magenta", "bright_green"

_LEAST_WIDTH, _LEAST_ROWS, _MOST_WIDTH, _MOST_ROWS = 60, 6, 120, 14
_GAP = 2


def render(history: History, width: int, rows: int) -> RenderableType | None:
    """Both plots side by side in ``width`` columns and at most ``rows`` rows, titles included.

    ``None`` where the terminal is too narrow or too low to show anything worth the place.
    """
    width, rows = min(width, _MOST_WIDTH), min(rows, _MOST_ROWS)
    if width < _LEAST_WIDTH or rows < _LEAST_ROWS:
        return None
    size = ((width - _GAP) // 2, rows - 1)
    finite = [y for y in history.train_loss.y if math.isfinite(y)]
    top = 1.05 * max(finite, default=0.0) or 1.0
    loss = _plot(history, size, top, {"blue+": history.train_loss})
    accuracies = {"magenta+": history.train_acc, "green+": history.test_acc}
    accuracy = _plot(history, size, 1.0, accuracies)

    table = Table.grid(padding=(0, _GAP, 0, 0))
    table.add_row(
        Text.assemble("  ", ("loss", f"bold {LOSS}")),
        Text.assemble("  ", ("train acc", f"bold {TRAIN}"), "  ", ("● test acc", f"bold {TEST}")),
    )
    table.add_row(Text.from_ansi(loss), Text.from_ansi(accuracy))
    return table


def _plot(history: History, size: tuple[int, int], top: float, curves: dict[str, Curve]) -> str:
    # plotext keeps one figure for the whole process; it is cleared before and after use.
    plotext.clear_figure()
    plotext.limit_size(False, False)
    plotext.plotsize(*size)
    plotext.theme("clear")
    for colour, curve in curves.items():
        points = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(y)]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        plotext.plot(xs, ys, color=colour, marker="braille")
        if curve is history.test_acc:
            # As many as leave the other curve to be seen, the last one among them.
            every = math.ceil(3 * history.epochs / size[0])
            plotext.scatter(xs[::-every], ys[::-every], color=colour, marker="●")
    plotext.xaxes(True, False)
    plotext.yaxes(True, False)
    plotext.xlim(0, history.epochs)
    plotext.ylim(0, top)
    epochs = [int(x) for x in ticks(history.epochs, min(10, size[0] // 5)) if x == int(x)]
    plotext.xticks(epochs, [str(x) for x in epochs])
    heights = ticks(top, max(2, (size[1] - 3) // 2))  # two rows or more apart
    plotext.yticks(heights, [f"{y:4.3g}" for y in heights])
    text: str = plotext.build()
    plotext.clear_figure()
    return text.rstrip("\n")


def ticks(top: float, most: int) -> list[float]:
    """Round numbers from 0 up to ``top``: at most ``most`` steps of 1, 2, 2.5 or 5 × 10ⁿ."""
    least = top / max(most, 1)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= least * 0.999)
    return [round(i * step, 12) for i in range(int(top / step * 1.001) + 1)]
