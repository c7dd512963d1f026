"""Training to the end, in one process or several, and opening what it left."""

from __future__ import annotations

from pathlib import Path

from ..training.events import Listener
from ..training.following import follow
from ..training.session import Session
from .record import Record
from .run import Run, load


def finish(session: Session, record: Record | None, watchers: list[Listener]) -> Run:
    """Train, and open the run folder, with the trained network in ``trained``.

    Of several processes only the leader has a ``record``; the others, who may not see the folder,
    are told what is in it.

    Raises:
        FiveByFiveError: the training can't go on, or the folder can't be written.
        Interrupted: a signal asked to stop.
    """
    found = None
    if record is None:
        follow(session)
    else:
        record.train(watchers)
        found = str(record.path), str(record.shown), load(record.path).info
    path, shown, info = session.processes.exchange(found)[0]
    return Run(Path(path), Path(shown), info, session.recipe, session.network.eval())
