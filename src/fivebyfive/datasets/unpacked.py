"""Archives kept unpacked in the cache, since unpacking is most of the time that loading takes.

What an archive of a named dataset held is kept in the cache under its SHA-256, and a small file
notes which archive that was: path, size, time of change and inode. Where any of these has changed,
the archive itself is read again. A kept copy is proven by its digest whenever it is read, so that
nothing but what a named dataset holds can come from here, whatever befell the cache.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..lib import files
from ..lib.errors import DataError
from . import idx, locate
from .catalog import CATALOG
from .idx import Content, Kind

#: What is noted of an archive by its path: ``size``, ``mtime_ns``, ``inode``, and the ``sha256`` of
#: what it holds.
Notes = dict[str, dict[str, Any]]

_NAME = "archives.json"
_MOST = 64  # notes that are kept


def read(paths: Sequence[Path], greatest: Sequence[int], *, fresh: bool = False) -> list[Content]:
    """The contents of a dataset's four files, each from the copy kept of it if there is one.

    ``greatest`` is the largest size in bytes that each content may have. With ``fresh`` every file
    itself is read, whatever is noted of it, and its copy is made anew.

    Raises:
        DataError: as :func:`idx.read`.
    """
    folder = locate.cache() / "unpacked"
    files.sweep(folder, locate.IDLE)
    notes = _read_notes(folder)
    notices: Notes = {}
    contents = []
    for path, most, sizes in zip(paths, greatest, _sizes(), strict=True):
        key, look = str(path.absolute()), _look(path)
        digest = next((d for d in sizes if notes.get(key) == {**look, "sha256": d}), None)
        content = None
        if digest is not None and not fresh:
            content = _copy(folder / digest, idx.kind_of(path), sizes[digest], look["size"])
        if content is None:
            content = idx.read(path, idx.kind_of(path), most)
            if content.packed and content.sha256 in sizes and _keep(folder, content):
                notices[key] = {**look, "sha256": content.sha256}
        contents.append(content)
    if notices:
        _write_notes(folder, notes | notices)
    return contents


def _look(path: Path) -> dict[str, int]:
    """What shows that a file has changed.

    Raises:
        DataError: the file is gone.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}.") from error
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}


def _copy(path: Path, kind: Kind, greatest: int, stored: int) -> Content | None:
    """The copy kept at ``path`` of an archive of ``stored`` bytes, if it is there and right."""
    try:
        content = idx.read(path, kind, greatest)
    except DataError:
        return None
    return replace(content, stored=stored, packed=True) if content.sha256 == path.name else None


def _keep(folder: Path, content: Content) -> bool:
    """Keep a copy of what an archive held, or try to."""
    # A cache that can't be written, or a full disk, makes the next start slower, no more.
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        idx.write(folder / content.sha256, content.values)
        return True
    return False


def _sizes() -> list[dict[str, int]]:
    """Size by digest of what is worth keeping, for each of the four files; not of the sample."""
    by_name = zip(*(entry.files for entry in CATALOG.values() if entry.mirrors), strict=True)
    return [{file.sha256: file.size for file in alike} for alike in by_name]


def _read_notes(folder: Path) -> Notes:
    path = folder / _NAME
    try:
        notes = files.read_json(path) if path.is_file() else {}
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _write_notes(folder: Path, notes: Notes) -> None:
    # Of several processes that note something at once the last one wins. The others' archives are
    # unpacked, and noted, once more.
    with contextlib.suppress(OSError, ValueError):
        files.write_json(folder / _NAME, dict(list(notes.items())[-_MOST:]))
