"""Where a dataset may lie on this machine, in the order it is looked for.

1. ``$FIVEBYFIVE_DATA``;
2. the cache, ``$FIVEBYFIVE_CACHE`` or the user's cache folder;
3. where the system's packages put it.

A folder that the user gives (``--data FOLDER``) comes before all of these, and then none of them is
looked at.

A data folder may hold the four files itself, or in a sub-folder named after the dataset; the
``<root>/FashionMNIST/raw`` that torchvision makes is understood too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from ..lib.errors import DataError
from ..lib.files import expanded
from .catalog import Entry
from .folder import NAMES, missing

Kind = Literal["given", "environment", "cache", "installed"]
_WORDS: dict[Kind, str] = {
    "given": "the folder given",
    "environment": "$FIVEBYFIVE_DATA",
    "cache": "the cache",
    "installed": "installed",
}

#: Seconds after which a temporary file in the cache is a dead process's: downloads are written in
#: one go once they have come.
IDLE = 3600.0


@dataclass(frozen=True)
class Place:
    """A place looked at, and what was found there: ``folder`` holds the four files, or is None."""

    kind: Kind
    root: Path
    folder: Path | None
    note: str = ""

    @property
    def direct(self) -> bool:
        """Whether the files lie in ``root`` itself, so that only their content tells what they are.

        Else they lie in a folder named after the dataset.
        """
        return self.folder == self.root

    def __str__(self) -> str:
        return f"{_WORDS[self.kind]}, {self.folder or self.root}: {self.note or 'found'}"


def cache() -> Path:
    """The folder that downloads are kept in: ``$FIVEBYFIVE_CACHE``, or the user's cache folder."""
    chosen = os.environ.get("FIVEBYFIVE_CACHE")
    return expanded(chosen, DataError) if chosen else platformdirs.user_cache_path("fivebyfive")


def places(entry: Entry) -> list[Place]:
    """Every place ``entry`` may lie, in order, each looked at (but no file read)."""
    roots: list[tuple[Kind, Path]] = [("installed", home) for home in entry.homes]
    if entry.mirrors:
        roots.insert(0, ("cache", cache()))
        if os.environ.get("FIVEBYFIVE_DATA"):
            folder = expanded(os.environ["FIVEBYFIVE_DATA"], DataError)
            roots.insert(0, ("environment", folder))
    return [look(kind, root, entry.folders) for kind, root in roots]


def look(kind: Kind, root: Path, subfolders: tuple[str, ...]) -> Place:
    """Look for the four files in those sub-folders of ``root``, then in ``root`` itself."""
    try:
        if not root.is_dir():
            return Place(kind, root, None, "not a folder" if root.exists() else "no such folder")
    except OSError as error:
        return Place(kind, root, None, f"can't be read: {error.strerror or error}")
    note = f"no IDX files in it{''.join(f', nor in its {sub}/' for sub in subfolders)}"
    for folder in (*(root / sub for sub in subfolders), root):
        try:
            gone = missing(folder)
        except OSError as error:
            note = f"{folder} can't be read: {error.strerror or error}"
            continue
        if not gone:
            return Place(kind, root, folder)
        if len(gone) < len(NAMES):
            note = f"{folder} lacks {', '.join(gone)}"
    return Place(kind, root, None, note)
