"""For a notebook: a figure and a line of progress, both redrawn in place."""

from __future__ import annotations

import html
import io
import time
from collections.abc import Callable
from typing import Any

from IPython.display import display

from ..training.events import ChunkDone, EpochDone, Event, Finished, Noticed, Started
from . import wording
from .curves import History, figure
from .position import Position
from .throttle import Throttle

_DOTS_PER_INCH = 144
_SHOWN_AT = 72  # half size, so that it's sharp on screens with small pixels too


class Notebook:
    """Updates its two displays by their handles, so that nothing flickers and nothing piles up.

    The figure is drawn into memory and sent as an image: pyplot, its backend and its open figures
    stay as the user has them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._picture_pace = Throttle(least=0.5, share=0.05, clock=clock)
        self._line_pace = Throttle(least=0.25, share=0.02, clock=clock)
        self._progress = Position(clock)
        self._history = History()
        self._picture: Any = None  # IPython's display handles, once the training has started
        self._line: Any = None

    def on(self, event: Event) -> None:
        """Take the event in; redraw if it's time to."""
        self._progress.add(event)
        self._history.add(event)
        match event:
            case Started():
                self._begin(event)
            case ChunkDone():
                self._redraw(curves=event.mark)
            case EpochDone():
                self._redraw(curves=True)
            case Noticed():
                _notice(event.message)
            case Finished():
                self.close()
                _show(_text("\n".join(wording.summary(event.result))))
                _notice(event.notice)
            case _:
                if line := wording.control(event):
                    _show(_text(line))

    def close(self) -> None:
        """Leave both displays with the latest figures."""
        if self._picture is not None:
            _update(self._picture, _image(self._history))
            _update(self._line, _text(self._status()))
            self._picture = self._line = None

    def _begin(self, event: Started) -> None:
        pairs = wording.header(event)
        width = max(len(label) for label, _ in pairs)
        _show(_text("\n".join(f"{label:{width}}  {text}" for label, text in pairs)))
        _notice(event.notice)
        self._picture = _show(_image(self._history))
        self._line = _show(_text("starting …"))

    def _redraw(self, curves: bool) -> None:
        if self._line_pace.due():
            with self._line_pace.drawing():
                _update(self._line, _text(self._status()))
        if curves and self._picture_pace.due():
            with self._picture_pace.drawing():
                _update(self._picture, _image(self._history))

    def _status(self) -> str:
        progress = self._progress
        if progress.speed is None:
            return "stopped before the first step"
        test = "" if progress.test_acc is None else f", test acc {progress.test_acc:.3f}"
        return (
            f"epoch {progress.epoch}/{progress.epochs} · {wording.percent(progress.done)} · "
            f"{progress.time}\n"
            f"loss {progress.train_loss:.3f}, train acc {progress.train_acc:.3f}{test}\n"
            f"{wording.speeds(progress.speed)}"
        )


#: What Jupyter shows: one content by MIME types, and what belongs to it.
_Bundle = tuple[dict[str, Any], dict[str, Any]]


def _image(history: History) -> _Bundle:
    picture = figure(history)
    content = io.BytesIO()
    picture.savefig(content, format="png", dpi=_DOTS_PER_INCH)
    width, height = (round(inches * _SHOWN_AT) for inches in picture.get_size_inches())
    data = {"image/png": content.getvalue(), "text/plain": history.title}
    return data, {"image/png": {"width": width, "height": height}}


def _text(text: str) -> _Bundle:
    return {"text/plain": text}, {}


def _notice(message: str | None) -> None:
    if message:
        block = (
            '<div style="border-left: 4px solid #e69f00; padding: 0.4em 0.8em">'
            f"<b>Notice.</b> {html.escape(message)}</div>"
        )
        _show(({"text/html": block, "text/plain": f"NOTICE: {message}"}, {}))


def _show(bundle: _Bundle) -> Any:
    data, metadata = bundle
    return display(data, raw=True, metadata=metadata, display_id=True)


def _update(handle: Any, bundle: _Bundle) -> None:
    data, metadata = bundle
    handle.update(data, raw=True, metadata=metadata)
