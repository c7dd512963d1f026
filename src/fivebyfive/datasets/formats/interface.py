"""What a format of data is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..arrays import Arrays


@dataclass(frozen=True)
class Format:
    """A way that images and labels are kept in files.

    Attributes:
        name: what it is called.
        expected: what a user's folder should hold, in words, for errors.
        find: the file (or folder) to read at a place that the user named, or ``None`` if there is
            nothing of this format. It opens no file.
        read: what that file holds. It raises a ``DataError`` that says what is wrong with it.
    """

    name: str
    expected: str
    find: Callable[[Path], Path | None]
    read: Callable[[Path], Arrays]
