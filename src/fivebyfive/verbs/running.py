"""What :func:`train` and :func:`resume` share: from a prepared session to the run it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from .. import runs, watching
from ..lib.errors import DivergedError, Interrupted, NetworkError, RecipeError
from ..memory.estimate import estimate_memory
from ..runs import Run
from ..runs.record import Record
from ..training.control import Control
from ..training.events import Listener
from ..training.session import Session
from ..training.signals import Signals
from ..watching.choice import Mode
from ..watching.tensorboard import TensorBoard


def seconds(every: float) -> float:
    """The time between checkpoints, if it can be one.

    Raises:
        RecipeError: it is below 0, or no number.
    """
    if not every >= 0:
        raise RecipeError(f"checkpoint_every is {every}; expected seconds, 0 or more.")
    return float(every)


def watchers_for(mode: Mode, listeners: Sequence[Listener], tensorboard: bool) -> list[Listener]:
    """All who listen to a training beside the run folder itself.

    Raises:
        RecipeError: one of the user's listeners can't listen.
    """
    for each in listeners:
        if not all(callable(getattr(each, name, None)) for name in ("on", "close")):
            kind = type(each).__name__
            raise RecipeError(f"a listener is {kind}; expected objects with on(event) and close().")
    return [watching.choose(mode), *listeners, *([TensorBoard()] if tensorboard else [])]


@torch.inference_mode(False)
@torch.enable_grad()
def fit_into_memory(session: Session, micro_batch: int | None) -> None:
    """Have the session tell what memory it will take.

    Where that isn't there, batches are computed in parts from the start, unless the user said how.
    """
    try:
        estimate = estimate_memory(session, micro_batch)
    except NetworkError:  # it can't be followed without running it
        return
    if micro_batch is None and session.processes.size == 1:
        session.engine.micro_batch = estimate.micro_batch or 1
        session.engine.test_batch = estimate.test_batch or 1
    session.memory = str(estimate)


def finish(
    session: Session, record: Record | None, watchers: Sequence[Listener], control: Control | None
) -> Run:
    """Train, and open the run folder, with the trained network in ``trained``.

    Of several processes only the main one has a ``record``; the others, who may not see the folder,
    are told what is in it. They neither write nor say anything, and end as the main one does.

    Raises:
        FiveByFiveError: the training can't go on, or the folder can't be written.
        Interrupted: a signal asked to stop.
    """
    control, found = control or Control(), None
    with Signals(control):
        if record is None:
            _follow(session, control)
        else:
            with record:
                listeners = [record, *watchers]
                progress, checkpointer = record.start.progress, record.checkpointer
                session.run(record.started, listeners, checkpointer, progress, control)
            found = str(record.path), str(record.shown), runs.load(record.path).info
    path, shown, info = session.processes.exchange(found)[0]
    return Run(Path(path), Path(shown), info, session.recipe, session.network.eval())


def _follow(session: Session, control: Control) -> None:
    """Train along with the main process. If that ends early, it knows why and says so."""
    try:
        session.run(session.started(None), control=control)
    except Interrupted as stop:
        session.processes.quit(128 + stop.signal)
    except DivergedError as error:
        session.processes.quit(error.status)
