"""The folder of a new run: found, claimed, and what to say when it can't be written."""

from __future__ import annotations

import contextlib
import errno
import itertools
import shlex
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from ..lib import files
from ..lib.errors import RunError
from . import lock

FORMAT = 1
INFO, METRICS, WEIGHTS, CURVES = "run.json", "metrics.jsonl", "model.safetensors", "curves.png"
CHECKPOINTS = "checkpoints"


def check_free(path: Path) -> None:
    """Refuse a path that holds something already; what a killed start left counts as nothing.

    Raises:
        RunError: naming the path and what is there.
    """
    try:
        if path.is_dir():
            held = [p.name for p in path.iterdir() if not _left_over(p)]
            if INFO in held:
                raise RunError(
                    f"{path} holds a run already; a run never overwrites. Name another folder, or "
                    f"resume this one: {resume_command(path)}."
                )
            if held:
                raise RunError(
                    f"{path} exists and isn't empty; a run never overwrites. Name another folder."
                )
        elif path.exists():
            raise RunError(f"{path} is a file; expected the name of a new folder.")
    except OSError as error:
        raise RunError(f"{path} can't be read: {error.strerror or error}.") from error


@contextlib.contextmanager
def create_run_dir(path: Path | None, name: str) -> Iterator[Path]:
    """Make the folder and hold it: of several processes that try, one gets it.

    Without a ``path`` it is ``runs/<date-time>-<name>``, with a number behind it where that is
    taken.

    Raises:
        RunError: it holds something already, or can't be made or written to.
    """
    try:
        folder = _make_default(name) if path is None else path
        check_free(folder)
        files.make_folder(folder)
    except OSError as error:
        message = f"can't write the run folder {path or 'runs'}: {error}. Choose another by --run."
        raise RunError(message) from error
    with lock.locked(folder):
        check_free(folder)  # again, now that nobody else can come
        files.sweep(folder)
        yield folder


def resume_command(run: Path, network: str = "", data: Path | None = None) -> str:
    """What a user types to go on with a run: code and data of their own they name again."""
    words = ["fivebyfive", "train", *([network] if network else []), "--resume", str(run)]
    return shlex.join([*words, *([] if data is None else ["--data", str(data)])])


def check_plain(run: Path) -> None:
    """Refuse a run folder whose parts are links: writing there would reach outside of it.

    Raises:
        RunError: naming the link.
    """
    for name in (lock.FILE, METRICS, CHECKPOINTS):
        if (run / name).is_symlink():
            raise RunError(f"{run / name} is a link; expected a file or folder of the run's own.")


@contextlib.contextmanager
def writing(path: Path, needed: int) -> Iterator[None]:
    """Turn what goes wrong in writing ``needed`` bytes to ``path`` into words.

    Raises:
        RunError: it can't be written: why, how many bytes it takes, and what to do.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise unwritable(path, error, needed) from error


def unwritable(path: Path, error: OSError, needed: int) -> RunError:
    """The error for a file of a run that can't be written."""
    room = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        with contextlib.suppress(OSError):
            folder = next(parent for parent in path.parents if parent.is_dir())
            free = shutil.disk_usage(folder).free
            room = f"; {needed:,} bytes are needed and {free:,} are free"
    return RunError(
        f"can't write {files.from_here(path)}: {error.strerror or error}{room}. What was saved "
        "before is as it was: make it writable, then go on by --resume, or start again if nothing "
        "was."
    )


def _make_default(name: str) -> Path:
    stamped = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}"
    for number in itertools.count(1):
        path = stamped if number == 1 else stamped.with_name(f"{stamped.name}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            return path
        if not path.parent.is_dir():
            path.mkdir(parents=True)  # a file is in the way: raises what says so
    raise AssertionError


def _left_over(path: Path) -> bool:
    return path.match(files.LEFT_OVER) or path.name in (lock.FILE, lock.HOLDER)
