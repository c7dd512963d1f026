"""Control of a training from outside: from another thread, a listener or a signal handler."""

from __future__ import annotations

import math
import signal as signals

from ..lib.errors import RecipeError


class Control:
    """Asks a training to stop, to pause, or to go on with another learning rate.

    Give one to :func:`fivebyfive.train` or :func:`fivebyfive.resume`; its methods may be called
    from any thread, and before the training starts. They only leave a wish behind, which the
    training grants between two chunks of steps, at most a quarter of a second long (or one step,
    where that takes longer), and between the batches of a test. A control serves one training: what
    was asked stays asked.

    Attributes:
        stopped: whether the training was asked to stop.
        paused: whether it was asked to pause.
        lr: the learning rate that was asked for; ``None`` for the recipe's.
    """

    def __init__(self) -> None:
        # Plain attributes, since a signal handler must not wait for a lock.
        self.stopped = False
        self.paused = False
        self.lr: float | None = None
        self._signal: signals.Signals | None = None

    def stop(self) -> None:
        """End the training where it stands, with a checkpoint; ``resume`` continues it."""
        self.stopped = True

    def pause(self) -> None:
        """Hold the training until :meth:`resume` or :meth:`stop`."""
        self.paused = True

    def resume(self) -> None:
        """Let a paused training continue."""
        self.paused = False

    def set(self, *, lr: float) -> None:
        """Train with another learning rate from the next chunk of steps on.

        Raises:
            RecipeError: it isn't a finite number above 0.
        """
        valid = isinstance(lr, int | float) and not isinstance(lr, bool)
        if not valid or not math.isfinite(lr) or lr <= 0:
            raise RecipeError(f"lr is {lr!r}; expected a finite number above 0.")
        self.lr = float(lr)

    @property
    def signal(self) -> signals.Signals | None:
        """The signal that asked for the end, if one did."""
        return self._signal

    def stop_by_signal(self, number: signals.Signals) -> None:
        """As :meth:`stop`, for a signal: the program then ends as the signal asks."""
        self._signal = number
        self.stopped = True
