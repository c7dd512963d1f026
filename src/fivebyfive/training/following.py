"""What every process but the leader does: train along, and neither write nor say anything."""

from __future__ import annotations

from ..lib.errors import DivergedError
from .progress import Progress
from .session import Session
from .signals import Interrupted


class NoCheckpointer:
    """A :class:`~fivebyfive.training.loop.Checkpointer` that leaves the keeping to the leader's."""

    def keep(self, progress: Progress) -> None:
        """Nothing to do."""

    def save_now(self, progress: Progress, wait: bool = False) -> None:
        """Nothing to do."""


def follow(session: Session) -> None:
    """Train along with the leader to the end. If that comes early, the leader, too, knows why."""
    try:
        session.run(session.started(None), [], NoCheckpointer())
    except Interrupted as stop:
        session.processes.quit(128 + stop.signal)
    except DivergedError as error:
        session.processes.quit(error.status)
