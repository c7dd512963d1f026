"""Which listener shows a training to people, chosen by where they are."""

from __future__ import annotations

import io
import os
import sys
from typing import Literal, TextIO, get_args

from ..lib.errors import UnknownNameError
from ..training.events import Event, Listener

Mode = Literal["auto", "notebook", "terminal", "lines", "quiet"]


class Quiet:
    """Shows nothing."""

    def on(self, event: Event) -> None:
        """Take one event and leave it."""

    def close(self) -> None:
        """Nothing to close."""


def choose(mode: Mode = "auto", stream: TextIO | None = None) -> Listener:
    """The listener for ``mode``; ``auto`` looks where it runs.

    Args:
        mode: ``notebook`` (a figure that redraws in place), ``terminal`` (a live display),
            ``lines`` (one line an epoch), ``quiet`` (nothing), or ``auto``: the first of the
            first three that fits.
        stream: where the text goes, stderr by default, so that stdout stays free for programs.
            A notebook has its own place and doesn't use it.

    Raises:
        UnknownNameError: there is no such mode.
    """
    stream = sys.stderr if stream is None else stream
    if stream is None:  # as where a program was started with stderr closed
        stream, mode = io.StringIO(), "quiet" if mode == "auto" else mode
    if mode == "auto":
        mode = _fitting(stream)
    # Each listener brings a library of its own; only the chosen one is loaded.
    if mode == "notebook":
        from .notebook import Notebook

        return Notebook()
    if mode == "terminal":
        from rich.console import Console

        from .terminal import Terminal

        return Terminal(Console(file=stream))
    if mode == "lines":
        from .lines import Lines

        return Lines(stream)
    if mode == "quiet":
        return Quiet()
    raise UnknownNameError("way of watching", mode, get_args(Mode))


def _fitting(stream: TextIO) -> Mode:
    if in_notebook():
        return "notebook"
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    encoding = (getattr(stream, "encoding", None) or "").lower().replace("-", "")
    if stream.isatty() and not dumb and encoding.startswith("utf"):
        return "terminal"
    return "lines"


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code. Doesn't import IPython: a kernel already has."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
