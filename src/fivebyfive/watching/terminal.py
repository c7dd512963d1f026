"""For a terminal: a header, a live display of curves, progress and speed, and a summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..training.events import ChunkDone, EpochDone, Event, Finished, Noticed, Started
from . import terminal_curves, wording
from .curves import History
from .position import Position
from .terminal_curves import LOSS, TEST, TRAIN
from .throttle import Throttle

#: Rows that header, progress and summary take: with the curves, all fits on one screen at the end.
_OTHER_ROWS = 12
_BAR_WIDTH = 40


class Terminal:
    """Draws in place, a few times a second at most, and leaves the last curves on the screen."""

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = Console(stderr=True) if console is None else console
        self._pace = Throttle(least=0.25, share=0.02, clock=clock)
        self._progress = Position(clock)
        self._history = History()
        self._live: Live | None = None

    def on(self, event: Event) -> None:
        """Take the event in; redraw if it's time to."""
        self._progress.add(event)
        self._history.add(event)
        match event:
            case Started():
                self._begin(event)
            case ChunkDone() | EpochDone():
                self._redraw()
            case Noticed():
                self._notice(event.message)
            case Finished():
                self._leave(finished=True)
                self._console.print(*map(Text, wording.summary(event.result)), sep="\n")
                self._notice(event.notice)
            case _:
                if line := wording.control(event):
                    self._console.print(Text(line))

    def close(self) -> None:
        """Leave the display with the latest figures, and the cursor below it."""
        self._leave(finished=False)

    def _begin(self, event: Started) -> None:
        table = Table.grid(padding=(0, 2, 0, 0))
        for label, text in wording.header(event):
            table.add_row(Text(label, style="dim"), Text(text, overflow="fold"))
        self._console.print(table)
        self._notice(event.notice)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            # What a user's own code prints goes above the display; a redirected stdout stays apart.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._live.start()

    def _notice(self, message: str | None) -> None:
        if message:
            text = Text(wording.printable(message))
            self._console.print(Panel(text, title="notice", style="bold yellow", expand=False))

    def _leave(self, finished: bool) -> None:
        if self._live is not None:
            self._live.update(self._frame(finished))
            self._live.stop()
            self._live = None

    def _redraw(self) -> None:
        if self._live is not None and self._pace.due():
            with self._pace.drawing():
                self._live.update(self._frame(), refresh=True)

    def _frame(self, finished: bool = False) -> RenderableType:
        progress, size = self._progress, self._console.size
        if progress.speed is None:
            return Text("starting …", style="dim")
        plots = terminal_curves.render(self._history, size.width, size.height - _OTHER_ROWS)
        parts = [_bar(progress, size.width)]
        if plots is not None:
            parts.insert(0, plots)
        if not finished:  # else the summary follows, with the figures of the whole run
            parts += [_figures(progress), Text(wording.speeds(progress.speed), style="dim")]
        return Group(*parts)


def _bar(progress: Position, width: int) -> RenderableType:
    left = f"epoch {progress.epoch}/{progress.epochs}"
    right = f"{wording.percent(progress.done)} · {progress.time}"
    # Room for the widest text to come, so that the bar keeps its length.
    room = width - len(left) - len("100 % · 10:00:00 left") - 2
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_row(
        left,
        ProgressBar(total=1.0, completed=progress.done, width=max(1, min(_BAR_WIDTH, room))),
        Text(right),
    )
    return table


def _figures(progress: Position) -> Text:
    text = Text.assemble(
        (f"loss {progress.train_loss:.3f}", LOSS),
        " · ",
        (f"train acc {progress.train_acc:.3f}", TRAIN),
    )
    if progress.test_acc is not None:
        text.append(" · ").append(f"test acc {progress.test_acc:.3f}", TEST)
    return text
