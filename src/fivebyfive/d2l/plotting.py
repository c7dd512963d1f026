"""The book's way with matplotlib: its figure size, its axes, its curves and rows of images."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..watching.choice import in_notebook

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Solid, magenta dashed, green dash-dotted, red dotted: the looks of the book's first four curves.
FORMATS = ("-", "m--", "g-.", "r:")
FIGSIZE = (3.5, 2.5)  # inches

Limits = Sequence[float] | None


@functools.cache
def pyplot() -> Any:
    """Matplotlib's pyplot. Without a display its ``show()`` does nothing, and says nothing."""
    from matplotlib import pyplot as plt

    # The book's code calls show() for notebooks' sake; on a machine without a display matplotlib
    # would warn of it at every call.
    warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
    return plt


def use_svg_display() -> None:
    """Let a notebook show figures as SVG, sharp at any size; elsewhere nothing happens."""
    if in_notebook():
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg")


def set_figsize(figsize: tuple[float, float] = FIGSIZE) -> None:
    """Set the size of the figures to come, in inches."""
    use_svg_display()
    pyplot().rcParams["figure.figsize"] = figsize


def set_axes(
    axes: Axes,
    xlabel: str | None,
    ylabel: str | None,
    xlim: Limits,
    ylim: Limits,
    xscale: str,
    yscale: str,
    legend: Sequence[str] | None,
) -> None:
    """Set labels, limits, scales, legend and grid of ``axes``."""
    axes.set_xlabel(xlabel or "")
    axes.set_ylabel(ylabel or "")
    axes.set_xscale(xscale)
    axes.set_yscale(yscale)
    # Limits that span nothing, as in one epoch's [1, 1], would make matplotlib warn.
    if xlim is not None and xlim[0] != xlim[1]:
        axes.set_xlim(xlim[0], xlim[1])
    if ylim is not None and ylim[0] != ylim[1]:
        axes.set_ylim(ylim[0], ylim[1])
    if legend:
        axes.legend(legend)
    axes.grid()


def plot(
    X: Any,  # noqa: N803 (the book's names)
    Y: Any = None,  # noqa: N803
    xlabel: str | None = None,
    ylabel: str | None = None,
    legend: Sequence[str] | None = None,
    xlim: Limits = None,
    ylim: Limits = None,
    xscale: str = "linear",
    yscale: str = "linear",
    fmts: Sequence[str] = FORMATS,
    figsize: tuple[float, float] = FIGSIZE,
    axes: Axes | None = None,
) -> None:
    """Plot one or several curves into ``axes``, or into the current figure.

    ``X`` and ``Y`` are each a sequence of numbers for all curves, or a list with one for each.
    Without ``Y``, ``X`` holds the y values, drawn over 0, 1, 2…. ``fmts`` are matplotlib's format
    strings, one a curve; ``figsize`` is in inches; for the rest see :func:`set_axes`.
    """
    set_figsize(figsize)
    axes = axes if axes is not None else pyplot().gca()
    curves_x, curves_y = _curves(X), _curves(Y) if Y is not None else []
    if not curves_y:
        curves_x, curves_y = [range(len(curve)) for curve in curves_x], curves_x
    if len(curves_x) == 1:
        curves_x = curves_x * len(curves_y)
    axes.cla()
    for x, y, fmt in zip(curves_x, curves_y, fmts, strict=False):
        axes.plot(x, y, fmt)
    set_axes(axes, xlabel, ylabel, xlim, ylim, xscale, yscale, legend)


def show_images(
    imgs: Iterable[Any],
    num_rows: int,
    num_cols: int,
    titles: Sequence[str] | None = None,
    scale: float = 1.5,
) -> Any:
    """Show images in a grid, row by row.

    Args:
        imgs: tensors ``[H, W]`` or ``[H, W, 3]``, on any device, or PIL images.
        num_rows: rows of the grid.
        num_cols: columns of the grid.
        titles: one for each image.
        scale: side of an image in inches.

    Returns:
        The grid's axes, an array of ``num_rows * num_cols``.
    """
    figsize = (num_cols * scale, num_rows * scale)
    _, grid = pyplot().subplots(num_rows, num_cols, figsize=figsize, squeeze=False)
    axes = grid.flatten()
    for i, (place, image) in enumerate(zip(axes, imgs, strict=False)):
        place.imshow(image.detach().cpu().numpy() if torch.is_tensor(image) else image)
        place.get_xaxis().set_visible(False)
        place.get_yaxis().set_visible(False)
        if titles:
            place.set_title(titles[i])
    return axes


def _curves(values: Any) -> list[Any]:
    """One curve, or several, as a list of curves."""
    if getattr(values, "ndim", None) == 1:
        return [values]
    if isinstance(values, list | tuple | range) and not hasattr(values[0], "__len__"):
        return [values]
    return list(values)
