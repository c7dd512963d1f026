"""Keeping a training while it runs: the writing side of the run folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import runs
from .errors import RunError
from .training.events import Event, Listener, Result
from .training.session import Session
from .watching.curves import History, draw
from .watching.metrics import MetricsLog


class Record:
    """The files of one run: made by :func:`recording`."""

    def __init__(self, path: Path | None, session: Session) -> None:
        self.path = runs.create_default(session.recipe.name) if path is None else runs.create(path)
        self.result: Result | None = None
        self._session = session
        self._info = _describe(session)
        self._save("running")

    def listeners(self) -> list[Listener]:
        """New ones that write what happens while it happens; whoever takes them closes them."""
        return [MetricsLog(self.path / runs.METRICS), CurvesFile(self.path / runs.CURVES)]

    def after_epoch(self) -> None:
        """Put the weights in safety, in the place of the epoch's before."""
        runs.save_weights(self._session.network, self.path / runs.WEIGHTS)

    def close(self, state: str) -> None:
        """Write how the run ended."""
        if self.result is not None:
            self._info["result"] = self.result.as_dict()
        self._info["ended"] = _now()
        self._save(state)

    def _save(self, state: str) -> None:
        self._info["state"] = state
        runs.write_info(self.path, self._info)


class CurvesFile:
    """Draws ``curves.png`` once, when the training is over, well or not."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._history = History()

    def on(self, event: Event) -> None:
        """Collect the event's points."""
        self._history.add(event)

    def close(self) -> None:
        """Draw."""
        draw(self._history, self._path)


@contextlib.contextmanager
def recording(path: Path | None, session: Session) -> Iterator[Record]:
    """Make the run folder and keep it up to date; its state tells how the block ended.

    Without a ``path`` it is ``runs/<date-time>-<recipe>``.

    Raises:
        RunError: the folder holds something already, or can't be made or written to.
    """
    record = Record(path, session)
    try:
        yield record
    except BaseException as error:
        # A disk that is full may be why we are here: the first error is the one to tell.
        with contextlib.suppress(RunError):
            record.close("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    record.close("finished")


def _describe(session: Session) -> dict[str, Any]:
    started = session.started(None)
    data = session.data
    return {
        "state": "running",
        "begun": _now(),
        "ended": None,
        "recipe": session.recipe.as_dict(),
        "changed": session.recipe.changed(),
        "network": {"name": session.recipe.network, "parameters": started.parameters},
        "data": {
            "name": data.name,
            "source": data.source,
            "digests": dict(data.digests),
            "train_images": len(data.train),
            "test_images": len(data.test),
            "shape": list(data.train.shape),
            "classes": list(data.classes),
            "notice": data.notice,
        },
        "device": started.device,
        "device_title": started.device_title,
        "engine": started.engine,
        "environment": runs.environment(),
        "result": None,
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
