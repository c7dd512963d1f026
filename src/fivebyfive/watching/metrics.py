"""``metrics.jsonl``: the training as rows that any program can read.

One JSON object a line, in the order things happened; ``event`` says which kind it is:

* ``mark``: ``epoch``, ``step`` (of ``steps``), ``position`` (epochs done, with the part of this
  one), ``images``, ``train_loss``, ``train_acc`` (means over this epoch so far), and the speed so
  far: ``images_per_s``, ``images_per_s_compute``, ``data_share``.
* ``epoch``: ``epoch`` (of ``epochs``), ``train_loss``, ``train_acc``, ``test_loss``, ``test_acc``,
  ``test_correct``, ``test_images``, ``train_seconds``, ``test_seconds``, and this epoch's speed.
* ``notice``: ``kind``, ``epoch``, ``message``.

Every line is strict JSON: a number that is not finite (a training that diverged) is ``null``.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..training.events import EpochDone, Event, Noticed, Stretch


class MetricsLog:
    """Appends the rows to a file as they come. Whoever is killed has lost no finished row.

    Raises:
        OSError: the file can't be opened or written.
    """

    def __init__(self, path: Path) -> None:
        # Without a buffer each row is one write: it's in the file whole as soon as it's made.
        self._file = path.open("ab", buffering=0)

    def on(self, event: Event) -> None:
        """Write the event's row, where it has one."""
        values = row(event)
        if values is not None:
            line = json.dumps(values, ensure_ascii=False, allow_nan=False)
            self._file.write(f"{line}\n".encode())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def row(event: Event) -> dict[str, Any] | None:
    """The event's row; ``None`` for events that have none."""
    match event:
        case Stretch(mark=True):
            values = {"event": "mark", **asdict(event), "position": event.position}
            del values["mark"]
        case EpochDone():
            values = {"event": "epoch", **asdict(event)}
        case Noticed():
            values = {"event": "notice", **asdict(event)}
        case _:
            return None
    values.update(values.pop("speed", {}))
    return {key: _finite(value) for key, value in values.items()}


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``metrics.jsonl``. A last line that a kill cut short is left out.

    Raises:
        RunError: the file can't be read, or a line before the last is no JSON object.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise RunError(f"can't read {path}: {error.strerror}.") from error
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    return [_parse(path, number, line) for number, line in enumerate(lines, start=1)]


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise RunError(
            f"{path}, line {number}: expected a JSON object, found {line[:40]!r}. "
            "The file was changed or damaged; remove that line to read the rest."
        )
    return values


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
