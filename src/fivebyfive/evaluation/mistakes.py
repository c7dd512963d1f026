"""Pictures of where a network errs: its confusion matrix, and its most confident mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..datasets.splits import Split
from ..lib.files import replacing
from ..lib.pictures import readable
from ..lib.text import short
from .evaluate import Evaluation, Mistake

if TYPE_CHECKING:  # else where something is drawn, as matplotlib takes a third of a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120
MOST_NUMBERED = 25  # with more classes than this, numbers in the cells can't be read


def draw_confusion(verdict: Evaluation, path: Path) -> None:
    """Draw the confusion matrix as a PNG: a row for each true class, shaded by shares of the row.

    Raises:
        OSError: ``path`` can't be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    counts = np.array(verdict.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    count = len(verdict.classes)
    side = min(14.0, 3.2 + 0.52 * count)
    # "compressed" takes up the slack that square cells leave.
    figure = Figure(figsize=(side + 1.2, side), layout="compressed")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(f"{verdict.correct} of {verdict.images} right ({100 * verdict.accuracy:.1f} %)")
    axes.set_xlabel("said")
    axes.set_ylabel("is")
    names = [short(name) for name in verdict.classes]
    axes.set_xticks(range(count), names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(count), names, parse_math=False)
    axes.tick_params(length=0, labelsize=min(10.0, 500 / count))
    if count <= MOST_NUMBERED:
        _number(axes, counts, shares)
    bar = figure.colorbar(image, shrink=0.6, format=PercentFormatter(1, symbol=" %"))
    bar.set_label("share of the class")
    _save(figure, path)


def draw_mistakes(verdict: Evaluation, split: Split, path: Path, count: int = 25) -> None:
    """Draw the ``count`` most confident mistakes as a PNG, each with what was said and what it is.

    ``split`` is the one that ``verdict`` was given on.

    Raises:
        OSError: ``path`` can't be written.
    """
    from matplotlib.figure import Figure

    shown = verdict.mistakes[:count]
    columns = max(1, math.ceil(math.sqrt(len(shown))))
    rows = max(1, math.ceil(len(shown) / columns))
    figure = Figure(figsize=(max(5.0, 1.9 * columns), 0.6 + 2.05 * rows), layout="constrained")
    figure.suptitle(_headline(verdict, shown), fontsize=11)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, mistake in zip(grid.flat, shown, strict=False):
        _show(axes, split, mistake, verdict.classes)
    _save(figure, path)


def _number(axes: Axes, counts: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]) -> None:
    for (row, column), number in np.ndenumerate(counts):
        if number:
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(number), ha="center", va="center", color=ink, fontsize=8)


def _headline(verdict: Evaluation, shown: Sequence[Mistake]) -> str:
    wrong = len(verdict.mistakes)
    among = f"among {verdict.images} images"
    if not wrong:
        return f"No mistake {among}"
    if len(shown) == wrong:
        return f"All mistakes {among}: {wrong}"
    return f"The most confident {len(shown)} of {wrong} mistakes {among}"


def _show(axes: Axes, split: Split, mistake: Mistake, classes: Sequence[str]) -> None:
    pixels = split.images[mistake.index].cpu().numpy()
    said, true = short(classes[mistake.prediction]), short(classes[mistake.label])
    if len(pixels) == 3:
        axes.imshow(pixels.transpose(1, 2, 0))
    else:
        axes.imshow(pixels[0], cmap="gray", vmin=0, vmax=255)
    percent = f"{100 * mistake.confidence:.0f} %"
    axes.set_title(f"said {said} ({percent})\nis {true}", fontsize=8, parse_math=False)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary, readable():
        figure.savefig(temporary, format="png", dpi=DPI)
