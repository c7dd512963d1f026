"""A test's verdict for a terminal: the line, a bar for each class, and the confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType, RenderResult
from rich.style import Style
from rich.table import Table
from rich.text import Text

from ..lib.text import short

if TYPE_CHECKING:
    from .evaluate import Evaluation

BAR = 30
PAIRS = 5


def render(verdict: Evaluation, width: int) -> RenderResult:
    """All there is to say within ``width`` columns.

    Where the matrix doesn't fit, the pairs most often confused must do.
    """
    yield Text(verdict.line(), style="bold")
    yield Text()
    yield _bars(verdict, width)
    yield Text()
    matrix, needed = _matrix(verdict)
    if needed <= width:
        yield matrix
        yield Text()
    if pairs := verdict.confusions(PAIRS):
        yield Text("Most often confused", style="bold")
        yield _pairs(pairs)


def _bars(verdict: Evaluation, width: int) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    names = [short(name) for name in verdict.classes]
    room = max(0, min(BAR, width - max(map(len, names)) - 12))
    for name, accuracy in zip(names, verdict.accuracies, strict=True):
        if accuracy is None:
            table.add_row(Text(name), "–", Text("no images", style="dim"))
            continue
        full = round(accuracy * room)
        bar = Text("█" * full, style="green") + Text("░" * (room - full), style="dim")
        table.add_row(Text(name), f"{100 * accuracy:.1f} %", bar)
    return table


def _matrix(verdict: Evaluation) -> tuple[RenderableType, int]:
    """The matrix, a row for each true class, and the columns of the terminal that it takes.

    A column is headed by its class's number, which each row shows before its name.
    """
    labels = range(len(verdict.classes))
    digits = max(len(str(number)) for row in verdict.confusion for number in (*row, labels[-1]))
    names = [_row_name(label, short(verdict.classes[label])) for label in labels]
    table = Table.grid()
    table.add_column(no_wrap=True)
    for _ in labels:
        table.add_column(no_wrap=True, width=digits + 2)
    heads = [Text(f"{label} ".rjust(digits + 2), style="bold") for label in labels]
    table.add_row(Text("true ↓  pred →", style="dim"), *heads)
    for true, row in enumerate(verdict.confusion):
        total = max(1, sum(row))
        cells = [
            Text(f"{number or '·'} ".rjust(digits + 2), style=_shade(number / total, said == true))
            for said, number in enumerate(row)
        ]
        table.add_row(Text(f"{names[true]} "), *cells)
    return table, max(14, *map(len, names)) + 1 + len(labels) * (digits + 2)


def _row_name(label: int, name: str) -> str:
    return name if name == str(label) else f"{label} {name}"


def _shade(share: float, right: bool) -> Style:
    """A background that grows with the share of the row: green where right, red where wrong."""
    if share < 0.005:
        return Style(dim=True)
    # Mistakes are small shares: the root makes 2 % and 10 % tell apart.
    strength = share if right else min(1.0, share**0.5 * 1.3)
    strong = (22, 120, 60) if right else (190, 30, 30)
    red, green, blue = (round(255 + (channel - 255) * strength) for channel in strong)
    ink = "white" if strength > 0.55 else "black"
    return Style(color=ink, bgcolor=f"rgb({red},{green},{blue})")


def _pairs(pairs: list[tuple[int, str, str]]) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    for times, true, said in pairs:
        table.add_row(f"{times} ×", Text(f"{true} predicted as {said}"))
    return table
