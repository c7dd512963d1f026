"""The curves of a training: their points, collected from events or rows, and their picture."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..lib.files import replacing
from ..lib.pictures import readable
from ..training.events import Event, Started
from . import rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's blue, vermilion and green: told apart by colour-blind eyes too.
LOSS, TRAIN, TEST = "#0072B2", "#D55E00", "#009E73"


@dataclass
class Curve:
    """Points of one curve: ``x`` in epochs. A value that is not finite is ``nan``, a gap."""

    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)

    def add(self, x: float, y: float | None) -> None:
        """Append a point."""
        self.x.append(x)
        self.y.append(math.nan if y is None else y)


@dataclass
class History:
    """What the book's figures show: train loss and accuracy at the marks, test accuracy an epoch.

    ``final`` holds the figures of the last whole epoch, as in its row of ``metrics.jsonl``.
    """

    title: str = ""
    epochs: int = 1
    train_loss: Curve = field(default_factory=Curve)
    train_acc: Curve = field(default_factory=Curve)
    test_acc: Curve = field(default_factory=Curve)
    final: dict[str, Any] | None = None

    @classmethod
    def from_rows(cls, past: Iterable[dict[str, Any]], title: str, epochs: int) -> History:
        """The history of a run, from the rows of its ``metrics.jsonl``."""
        history = cls(title, epochs)
        for row in past:
            history._take(row)
        return history

    def add(self, event: Event) -> None:
        """Take what an event has for the curves."""
        if isinstance(event, Started):
            self.title = f"{event.recipe.name} on {event.data}"
            self.epochs = event.recipe.epochs
            for past in event.past:
                self._take(past)
        elif (row := rows.row(event)) is not None:
            self._take(row)

    def _take(self, row: dict[str, Any]) -> None:
        if row["event"] == "mark":
            self.train_loss.add(row["position"], row["train_loss"])
            self.train_acc.add(row["position"], row["train_acc"])
        elif row["event"] == "epoch":
            self.test_acc.add(row["epoch"], row["test_acc"])
            self.final = row


def draw(history: History, path: Path) -> None:
    """Write the picture as a PNG, whole or not at all.

    Raises:
        OSError: the folder can't be written, or the disk is full.
    """
    with replacing(path) as temporary, readable():
        figure(history).savefig(temporary, format="png", dpi=160)


def figure(history: History) -> Figure:
    """Loss on the left, both accuracies on the right, over the epochs.

    The book draws all three on one axis, where the loss squeezes the accuracies together. Made
    without pyplot, whose figures and backend belong to the user.
    """
    # Only here, as it takes a third of a second: whoever draws nothing doesn't wait for it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    picture = Figure(figsize=(8, 3.5))
    FigureCanvasAgg(picture)
    # Places by hand: matplotlib's own layout would take longer than all the drawing.
    loss, accuracy = picture.subplots(
        1, 2, gridspec_kw={"left": 0.06, "right": 0.98, "bottom": 0.15, "top": 0.76, "wspace": 0.14}
    )
    picture.text(0.015, 0.93, history.title, weight="bold", parse_math=False)
    picture.text(0.015, 0.86, _final(history))

    _line(loss, history.train_loss, "train loss", LOSS)
    loss.set_ylim(bottom=0)
    # Numbers too long for the margin share a power of ten, which stands left of the legend.
    loss.ticklabel_format(axis="y", scilimits=(-3, 4))
    loss.yaxis.get_offset_text().set_x(-0.11)
    _line(accuracy, history.train_acc, "train acc", TRAIN)
    # As many dots as can be told apart, the last test among them.
    every = math.ceil(history.epochs / 25)
    dots = {
        "marker": "o",
        "markersize": 4,
        "markevery": ((len(history.test_acc.x) - 1) % every, every),
    }
    _line(accuracy, history.test_acc, "test acc", TEST, **dots)
    accuracy.set_ylim(0, 1)

    for axes in (loss, accuracy):
        axes.set_xlim(0, history.epochs)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        # Above the axes, where no curve can run into it.
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=2, frameon=False)
    return picture


def _final(history: History) -> str:
    names = {"loss": "train_loss", "train acc": "train_acc", "test acc": "test_acc"}
    final = history.final or {}
    return ", ".join(f"{name} {_number(final[key])}" for name, key in names.items() if key in final)


def _line(axes: Axes, curve: Curve, name: str, colour: str, **style: Any) -> None:
    label = f"{name} {_number(curve.y[-1])}" if curve.y else name
    if len(curve.x) == 1:
        style.setdefault("marker", "o")  # a line of one point isn't seen
    axes.plot(curve.x, curve.y, color=colour, label=label, clip_on=False, zorder=3, **style)


def _number(value: float | None) -> str:
    return f"{math.nan if value is None else value:.3f}"
