"""Keeping a training while it runs: the writing side of the run folder."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import InitVar, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import networks
from ..lib import files
from ..lib.errors import DivergedError, RankGoneError, RunError
from ..training.events import Event, Listener, Result, Started
from ..training.progress import Progress
from ..training.session import Session
from ..training.signals import Interrupted, Stop
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


@dataclass
class Record:
    """The files of one run, in a folder that this process holds.

    ``path`` becomes absolute, since a program may change its working directory while it trains.
    Messages call it what it was before, or else what is ``given``.
    """

    path: Path
    session: Session
    start: Start = field(default_factory=Start)
    every: float = EVERY
    given: InitVar[Path | None] = None

    def __post_init__(self, given: Path | None) -> None:
        self.shown = given or self.path
        self.path = self.path.absolute()
        self._info = _describe(self.session, self.start)
        if self.start.info is None:
            self._create()
        else:
            self._save("running")
        self._log = MetricsLog(self.path / folder.METRICS)
        self._curves = Curves()
        best = (self.start.number, self.start.best)
        self.checkpointer = RunCheckpointer(self.path, self.session, self._log, self.every, *best)

    def _create(self) -> None:
        info = self.path / folder.INFO
        try:
            with folder.writing(info, len(files.json_bytes(self._info))):
                files.create_json(info, self._info)
        except FileExistsError:
            message = f"{self.shown} was just taken by another run. Name another folder."
            raise RunError(message) from None

    def train(self, watchers: list[Listener]) -> Result:
        """Train, and keep the folder up to date; its state tells how it ended.

        Raises:
            FiveByFiveError: the training can't go on, or the folder can't be written.
            Interrupted: a signal asked to stop; the message says how to go on.
        """
        try:
            with Stop() as stop:
                result = self._train(watchers, stop)
                self._finish(result)  # whoever asks to stop now is near enough to the end
        except Interrupted as asked:
            self._give_up("interrupted")
            raise Interrupted(
                asked.signal, f"{asked}. Go on with: {self._resume_command()}"
            ) from None
        except KeyboardInterrupt as asked:  # the second signal, or a listener's: at once
            with contextlib.suppress(RunError):
                self._save("interrupted")
            asked.args = (f"stopped at once. Go on with: {self._resume_command()}",)
            raise
        except BaseException as error:
            self._give_up("failed")
            if isinstance(error, DivergedError) and checkpoints.numbers(self.path):
                again = f"{self._resume_command()} --lr … --allow-change recipe"
                error.args = (f"{error} From the last good checkpoint: {again}",)
            if isinstance(error, RankGoneError):
                again = f"{self._resume_command()}, with any number of processes"
                error.args = (f"{error} Go on with: {again}.",)
            raise
        finally:
            self._log.close()
        return result

    def _train(self, watchers: list[Listener], stop: Stop) -> Result:
        listeners: list[Listener] = [self._log, self._curves, *watchers]
        progress = self.start.progress
        return self.session.run(self._started(), listeners, self.checkpointer, progress, stop)

    def _finish(self, result: Result) -> None:
        self.checkpointer.wait()
        with folder.writing(self.path / folder.CURVES, _PICTURE):
            draw(self._curves.history, self.path / folder.CURVES)
        self._save("finished", result.as_dict())

    def _started(self) -> Started:
        started, start = self.session.started(self.shown), self.start
        if start.info is None:
            return started
        return dataclasses.replace(
            started,
            resumed=start.progress.place,
            position=start.progress.epoch - 1 + start.progress.step / started.steps,
            past=start.rows,
            notice=" ".join(filter(None, (started.notice, *start.notes))) or None,
        )

    def _give_up(self, state: str) -> None:
        """The first error is the one to tell: a full disk may be why we are here."""
        with contextlib.suppress(RunError):
            self.checkpointer.wait()
        with contextlib.suppress(OSError, RunError):
            self._save(state)
        with contextlib.suppress(OSError):
            draw(self._curves.history, self.path / folder.CURVES)

    def _save(self, state: str, result: dict[str, Any] | None = None) -> None:
        path = self.path / folder.INFO
        ended = None if state == "running" else _now()
        self._info |= {"state": state, "ended": ended, "result": result}
        with folder.writing(path, len(files.json_bytes(self._info))):
            files.write_json(path, self._info)

    def _resume_command(self) -> str:
        network = self.session.recipe.network
        named = network in networks.NETWORKS or not networks.is_user_network(network)
        return folder.resume_command(self.shown, "" if named else network, self.session.folder)


class Curves:
    """Collects the points of ``curves.png``."""

    def __init__(self) -> None:
        self.history = History()

    def on(self, event: Event) -> None:
        """Take the event's points."""
        self.history.add(event)

    def close(self) -> None:
        """Drawn by the record, which answers for it."""


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
        "environment": environment(),
        "result": None,
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
