"""Putting a training in safety while it goes on: copied between steps, written beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

from ..lib import files
from ..lib.errors import RunError
from ..training.progress import Progress
from ..training.session import Session
from . import checkpoints, folder, tensors
from .conditions import conditions
from .log import MetricsLog

#: Seconds between checkpoints within an epoch; each epoch's end is one, too.
EVERY = 30.0
#: A save begins when this share of the interval is over, so that it is done when all of it is.
BEGIN = 0.9


class RunCheckpointer:
    """Writes checkpoints, and the weights of each whole epoch; see ``training.loop.Checkpointer``.

    The training waits only for a copy in memory, and for a write that isn't over when it has to be:
    before the next one, and when a whole interval's work would be lost. What a failed write raises,
    it raises at the next call.

    Args:
        run: the run folder, which this process holds the lock of.
        number: the checkpoint that the training goes on from, if any.
        every: seconds between checkpoints within an epoch, and the most that a kill undoes (give or
            take a stretch); 0 saves after every stretch.
        best: number and test accuracy of the best checkpoint so far.
    """

    def __init__(
        self,
        run: Path,
        session: Session,
        log: MetricsLog,
        every: float = EVERY,
        number: int | None = None,
        best: tuple[int, float] | None = None,
    ) -> None:
        self._run, self._session, self._log, self._every = run, session, log, every
        self._best = best
        self._number = max(checkpoints.numbers(run), default=0)
        self._whole = [] if number is None else [number]  # a damaged one isn't worth a place
        self._writer = _Writer()
        # When what is safe was had, and when what was saved last.
        self._safe = self._begun = time.monotonic()

    def keep(self, progress: Progress) -> None:
        """Save if it is time to.

        Raises:
            RunError: what was to be saved, now or before, can't be written.
        """
        if self._log.failure is not None:
            raise folder.unwritable(self._log.path, self._log.failure, self._log.written()[0])
        if time.monotonic() >= self._begun + BEGIN * self._every:
            self._save(progress)
        self._catch_up()

    def save_now(self, progress: Progress, wait: bool = False) -> None:
        """Save; with ``wait`` return when it is on the disk.

        Raises:
            RunError: what was to be saved, now or before, can't be written.
        """
        self._save(progress)
        self._catch_up()
        if wait:
            self.wait()

    def wait(self) -> None:
        """Return when all is on the disk.

        Raises:
            RunError: it can't be written.
        """
        self._writer.wait()

    def _catch_up(self) -> None:
        """Wait for a write without which a kill would undo more than an interval."""
        if time.monotonic() >= self._safe + self._every:
            self.wait()

    def _save(self, progress: Progress) -> None:
        self._writer.wait()
        self._safe, self._begun = self._begun, time.monotonic()
        self._number += 1
        number = self._number
        tested = progress.done if progress.step == 0 else None
        if tested is not None and (self._best is None or tested.test_acc > self._best[1]):
            self._best = (number, tested.test_acc)
        state = self._state(progress)
        self._whole = [*self._whole[-1:], number]
        keep = [*self._whole, *([] if self._best is None else [self._best[0]])]
        weights = tensors.packed(self._session.network.state_dict())
        optimizer = tensors.packed(self._session.engine.optimizer_state())
        self._writer.start(
            lambda: self._write(number, weights, optimizer, state, keep, tested is not None)
        )

    def _write(
        self,
        number: int,
        weights: memoryview,
        optimizer: memoryview,
        state: dict[str, Any],
        keep: list[int],
        tested: bool,
    ) -> None:
        """In the writer's thread: everything here is its own."""
        with folder.writing(self._log.path, self._log.written()[0]):
            self._log.sync()
        needed = len(weights) + len(optimizer) + len(files.json_bytes(state))
        with folder.writing(checkpoints.place(self._run, number), needed):
            checkpoints.write(self._run, number, weights, optimizer, state)
        if tested:
            with folder.writing(self._run / folder.WEIGHTS, len(weights)):
                files.write_bytes(self._run / folder.WEIGHTS, weights)
        checkpoints.prune(self._run, keep)

    def _state(self, progress: Progress) -> dict[str, Any]:
        session = self._session
        length, digest = self._log.written()
        return {
            "format": checkpoints.FORMAT,
            "progress": progress.as_dict(),
            "recipe": session.recipe.as_dict(),
            "data": dict(session.data.digests),
            "metrics": {"bytes": length, "sha256": digest},
            "conditions": conditions(session),
            "best": None if self._best is None else list(self._best),
        }


class _Writer:
    """One job at a time, beside the training; a daemon, so that it never keeps a program alive."""

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._failure: BaseException | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Begin a job; the one before must be over."""
        self._thread = Thread(target=self._do, args=(job,), daemon=True, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Return when the job is over; raise what it raised, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _do(self, job: Callable[[], None]) -> None:
        try:
            job()
        except RunError as error:
            self._failure = error
        except Exception as error:
            self._failure = RunError(f"the checkpoint can't be written: {error!r}.")
