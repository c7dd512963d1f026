"""Writing files so that a reader never sees half of one.

The bytes go to a temporary name in the same folder, are flushed to the disk, and take the final
name by a rename, which POSIX makes atomic. Whoever is killed on the way leaves the old file (or
none) under the name, never a part of the new one; what lies about then is for :func:`sweep`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from .errors import FiveByFiveError

Content: TypeAlias = bytes | memoryview

#: What a writer's temporary files and folders are called, as a pattern for names.
LEFT_OVER = f".*.{'[0-9a-f]' * 12}.part"
#: More JSON than any file of ours holds.
_LARGEST_JSON = 4 << 20
#: How file systems say that they don't flush folders; there a rename is all we get.
_CANT_FLUSH = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends well it becomes ``path``.

    When the block raises, the temporary file is removed and ``path`` is as it was.

    Raises:
        OSError: the folder can't be written, or the disk is full.
    """
    temporary = _beside(path)
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; when the block ends well it becomes ``path``.

    The files written into it are flushed before it takes its name, so that it is whole or not
    there.

    Raises:
        OSError: it can't be written, the disk is full, or ``path`` is there already.
    """
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            _flush(file)
        _flush_folder(temporary)
        temporary.rename(path)
        _flush_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def expanded(path: str | Path, error: type[FiveByFiveError]) -> Path:
    """``path`` with a ``~`` at its start replaced by the home folder it stands for.

    Raises:
        FiveByFiveError: nobody knows that one; it is of the type ``error``.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        message = f"{path}: there is no such home folder; write the path without the ~."
        raise error(message) from None


def from_here(path: Path) -> Path:
    """``path`` as one would type it here: without the working directory, where it lies in that."""
    with contextlib.suppress(OSError, ValueError):
        return path.relative_to(Path.cwd())
    return path


def make_folder(path: Path) -> None:
    """Make ``path``, where it isn't there, and the folders above it, so that they last.

    Raises:
        OSError: they can't be made, or ``path`` is something else.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in new:
        _flush_folder(folder.parent)


def write_bytes(path: Path, content: Content) -> None:
    """Write ``content`` to ``path`` whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as readable JSON to ``path`` whole or not at all."""
    write_bytes(path, json_bytes(value))


def create_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` whole; of several processes that try, one succeeds.

    Raises:
        FileExistsError: there is something already.
        OSError: the folder can't be written, or the disk is full.
    """
    temporary = _beside(path)
    try:
        temporary.write_bytes(json_bytes(value))
        _flush(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            path.touch(exist_ok=False)
            temporary.replace(path)
        _flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def json_bytes(value: Any) -> bytes:
    """``value`` as readable JSON in UTF-8."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    # The bytes of a path that are no UTF-8 have no other form than JSON's own, ``\udcff``.
    return f"{text}\n".encode(errors="backslashreplace")


def read_json(path: Path) -> Any:
    """The value of a JSON file that anyone may have written.

    Raises:
        OSError: it can't be read.
        ValueError: it is no JSON, or longer or deeper than any of ours.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise ValueError("not a file")
    with path.open("rb") as file:
        content = file.read(_LARGEST_JSON + 1)
    if len(content) > _LARGEST_JSON:
        raise ValueError(f"more than {_LARGEST_JSON:,} bytes")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def remove_folder(path: Path) -> None:
    """Remove a folder so that nobody sees half of it; what can't be removed is left to a sweep."""
    with contextlib.suppress(OSError):
        hidden = _beside(path)
        path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def sweep(folder: Path, idle: float = 0.0) -> None:
    """Remove what killed writers left in ``folder`` and nobody has written to for ``idle`` seconds.

    Where others may be writing, ``idle`` must be more than any of them takes.
    """
    found: list[Path] = []
    with contextlib.suppress(OSError):  # what can't be read has nothing of ours
        found += folder.glob(LEFT_OVER)
    for path in found:
        with contextlib.suppress(OSError):
            if idle and time.time() - path.lstat().st_mtime < idle:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    # Makes the rename itself last. Windows can't open folders; there the rename is all we get.
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # one that may be written to, but not be looked into
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANT_FLUSH:
            raise
    finally:
        os.close(descriptor)
