"""Recording a training while it runs: the writing side of the run folder."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import networks
from ..lib import files
from ..lib.errors import DivergedError, Interrupted, RankGoneError, RunError
from ..networks.structure import digest
from ..training.events import Event, Finished, Result, Started, Stopped
from ..training.progress import Progress
from ..training.session import Session
from ..watching.curves import History, draw
from . import checkpoints, folder
from .checkpointer import EVERY, RunCheckpointer
from .conditions import environment
from .log import MetricsLog

#: About how many bytes a picture of curves takes.
_PICTURE = 150_000


@dataclass(frozen=True)
class Start:
    """Where a training starts; the default is the very beginning, in a new folder.

    ``info`` is the run.json so far; ``rows`` are those of its metrics.jsonl; ``number`` is the
    checkpoint's; ``best`` is number and test accuracy of the best one; ``notes`` is what to tell
    and keep about going on.
    """

    progress: Progress = field(default_factory=Progress)
    info: dict[str, Any] | None = None
    rows: tuple[dict[str, Any], ...] = ()
    number: int | None = None
    best: tuple[int, float] | None = None
    notes: tuple[str, ...] = ()


class Record:
    """The files of one run, in a folder that this process holds; a listener of its training.

    A context manager around the training: at its end the folder tells how it ended, and errors how
    to resume. ``path`` is absolute, since a program may change its working directory while it
    trains; messages name it as ``shown``.

    Args:
        path: the folder.
        session: the training.
        start: where it starts.
        every: seconds between checkpoints.
        shown: the folder as the user gave it.

    Raises:
        RunError: the folder can't be written.
    """

    def __init__(
        self,
        path: Path,
        session: Session,
        start: Start | None = None,
        every: float = EVERY,
        shown: Path | None = None,
    ) -> None:
        self.path, self.shown = path.absolute(), shown or path
        self._session, self.start = session, start or Start()
        self._info = _describe(session, self.start)
        if self.start.info is None:
            self._create()
        else:
            self._save("running")
        self._log = MetricsLog(self.path / folder.METRICS)
        self._history = History()
        self._ended: Finished | Stopped | None = None
        best = (self.start.number, self.start.best)
        self.checkpointer = RunCheckpointer(self.path, session, self._log, every, *best)

    @property
    def started(self) -> Started:
        """The event that opens the training."""
        started, start = self._session.started(self.shown), self.start
        if start.info is None:
            return started
        return dataclasses.replace(
            started,
            resumed=start.progress.place,
            position=start.progress.epoch - 1 + start.progress.step / started.steps,
            past=start.rows,
            notice=" ".join(filter(None, (started.notice, *start.notes))) or None,
        )

    def on(self, event: Event) -> None:
        """Write the event's row, and remember what the folder has to tell at the end."""
        self._log.on(event)
        self._history.add(event)
        if isinstance(event, Finished | Stopped):
            self._ended = event

    def close(self) -> None:
        """The training sends no more."""
        self._log.close()

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write how the training ended; its state is kept, and its error says how to resume.

        Raises:
            RunError: what is to be kept can't be written.
        """
        try:
            if error is None:
                self._finish()
        except BaseException as failure:
            self._tell(failure)
            raise
        else:
            if error is not None:
                self._tell(error)
        finally:
            self._log.close()

    def _tell(self, error: BaseException) -> None:
        """Keep what can be kept after ``error``, and let it say how to resume."""
        resume = self._resume_command()
        if isinstance(error, Interrupted):
            self._give_up("interrupted")
            error.args = (f"{error}. Resume with: {resume}",)
        elif isinstance(error, KeyboardInterrupt):  # the second signal, or a listener's: at once
            with contextlib.suppress(RunError):
                self._save("interrupted")
            error.args = (f"stopped at once. Resume with: {resume}",)
        else:
            self._give_up("failed")
            if isinstance(error, DivergedError) and checkpoints.numbers(self.path):
                again = f"{resume} --lr … --allow-change recipe"
                error.args = (f"{error} From the last good checkpoint: {again}",)
            if isinstance(error, RankGoneError):
                error.args = (f"{error} Resume with: {resume}, with any number of processes.",)

    def _create(self) -> None:
        info = self.path / folder.INFO
        try:
            with folder.writing(info, len(files.json_bytes(self._info))):
                files.create_json(info, self._info)
        except FileExistsError:
            message = f"{self.shown} was just taken by another run. Name another folder."
            raise RunError(message) from None

    def _finish(self) -> None:
        self.checkpointer.wait()
        with folder.writing(self.path / folder.CURVES, _PICTURE):
            draw(self._history, self.path / folder.CURVES)
        if isinstance(self._ended, Finished):
            self._save("finished", self._ended.result)
        else:
            self._save("stopped")

    def _give_up(self, state: str) -> None:
        """The first error is the one to tell: a full disk may be why we are here."""
        with contextlib.suppress(RunError):
            self.checkpointer.wait()
        with contextlib.suppress(OSError, RunError):
            self._save(state)
        with contextlib.suppress(OSError):
            draw(self._history, self.path / folder.CURVES)

    def _save(self, state: str, result: Result | None = None) -> None:
        path = self.path / folder.INFO
        ended = None if state == "running" else _now()
        done = None if result is None else result.as_dict()
        self._info |= {"state": state, "ended": ended, "result": done}
        with folder.writing(path, len(files.json_bytes(self._info))):
            files.write_json(path, self._info)

    def _resume_command(self) -> str:
        network = self._session.recipe.network
        named = network in networks.NETWORKS or not networks.is_user_network(network)
        return folder.resume_command(self.shown, "" if named else network, self._session.folder)


def _describe(session: Session, start: Start) -> dict[str, Any]:
    started = session.started(None)
    data = session.data
    before = start.info or {}
    resumed = list(before.get("resumed", []))
    if start.info is not None:
        resumed.append({"at": _now(), "from": start.progress.place, "notes": list(start.notes)})
    return {
        "format": folder.FORMAT,
        "state": "running",
        "begun": before.get("begun", _now()),
        "ended": None,
        "resumed": resumed,
        "recipe": session.recipe.as_dict(),
        "changed": session.recipe.changed(),
        "network": {
            "name": session.recipe.network,
            "parameters": started.parameters,
            "structure": digest(session.network),
        },
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
        "environment": environment(),
        "result": None,
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
