"""``metrics.jsonl``: the training as rows that any program can read.

One JSON object a line, in the order things happened; ``event`` says which kind it is:

* ``mark``: ``epoch``, ``step`` (of ``steps``), ``position`` (epochs done, with the part of this
  one), ``images``, ``train_loss``, ``train_acc`` (means over this epoch so far), and the speed so
  far: ``images_per_s``, ``images_per_s_compute``, ``data_share``.
* ``epoch``: ``epoch`` (of ``epochs``), ``train_loss``, ``train_acc``, ``test_loss``, ``test_acc``,
  ``test_correct``, ``test_images``, ``train_seconds``, ``test_seconds``, and this epoch's speed.
* ``notice``: ``kind``, ``epoch``, ``message``.
* ``lr``: ``epoch``, ``step``, ``before``, ``lr``: another learning rate from this step on.

Every line is strict JSON: a number that is not finite (a training that diverged) is ``null``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ..lib.errors import RunError
from ..training.events import Event
from ..watching.rows import row

#: Bytes: far more than any row of ours, so that a file of anything else isn't taken for rows.
_LONGEST = 64 << 10
_CHUNK = 1 << 20


class MetricsLog:
    """Appends the rows to a file as they come. Whoever is killed has lost no finished row.

    Other listeners may fail and the training goes on; a row that can't be written is kept as
    ``failure``, for whoever answers for the run to act upon.

    Raises:
        RunError: the file can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failure: OSError | None = None
        self._digest = hashlib.sha256()
        self._length = 0
        try:
            # Without a buffer each row is one write: it's in the file whole as soon as it's made.
            self._file = path.open("ab", buffering=0)
            with path.open("rb") as file:
                while content := file.read(_CHUNK):
                    self._count(content)
        except OSError as error:
            raise RunError(f"can't write {path}: {error.strerror}.") from error

    def on(self, event: Event) -> None:
        """Write the event's row, where it has one."""
        values = row(event)
        if values is None or self.failure is not None:
            return
        line = f"{json.dumps(values, ensure_ascii=False, allow_nan=False)}\n".encode()
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self.failure = error
            return
        self._count(line)

    def written(self) -> tuple[int, str]:
        """How many bytes there are by now, and their SHA-256."""
        return self._length, self._digest.hexdigest()

    def sync(self) -> None:
        """See to it that the rows so far outlast a loss of power.

        Raises:
            OSError: they can't be written; also those before.
        """
        if self.failure is not None:
            raise self.failure
        with self.path.open("rb+") as file:  # the log may be closed by now
            os.fsync(file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _count(self, content: bytes) -> None:
        self._digest.update(content)
        self._length += len(content)


def rewind(path: Path, length: int, sha256: str) -> bool:
    """Cut the file to the ``length`` bytes it had at a checkpoint.

    Returns:
        Whether these are the bytes it had. Where they aren't, what can't be read is cut off too.

    Raises:
        OSError: it can't be written.
    """
    digest, kept, found = hashlib.sha256(), 0, 0
    with path.open("ab+") as file:
        file.seek(0)
        while found < length and (content := file.read(min(_CHUNK, length - found))):
            digest.update(content)
            if (end := content.rfind(b"\n")) >= 0:
                kept = found + end + 1
            found += len(content)
        whole = found == length and digest.hexdigest() == sha256
        file.truncate(found if whole else kept)
        os.fsync(file.fileno())
    return whole


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``metrics.jsonl``. A last line that a kill cut short is left out.

    Raises:
        RunError: the file can't be read, or a line is no row of ours or longer than 64 KiB.
    """
    rows: list[dict[str, Any]] = []
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise RunError(f"{path} isn't a file; expected rows of JSON.")
        with path.open("rb") as file:
            while line := file.readline(_LONGEST + 1):
                if len(line) > _LONGEST:
                    where = f"{path}, line {len(rows) + 1}"
                    raise RunError(f"{where}: too long; expected at most {_LONGEST:,} bytes.")
                if line.endswith(b"\n"):
                    rows.append(_parse(path, len(rows) + 1, line))
    except OSError as error:
        raise RunError(f"can't read {path}: {error.strerror}.") from error
    return rows


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    # A stranger's file of something else, however long, ends here at its first line.
    if not isinstance(values, dict) or not isinstance(values.get("event"), str):
        raise RunError(
            f'{path}, line {number}: expected a JSON object with an "event", found {line[:40]!r}. '
            "The file was changed or damaged; remove that line to read the rest."
        )
    return values
