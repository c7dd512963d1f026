"""The errors a user may meet. Each message says what came, what was expected, and what to do.

The command line prints the message alone and leaves with ``status``; from Python all but the last
two can be caught as :class:`FiveByFiveError`.

    FiveByFiveError             something the user can mend
      UnknownNameError          a name that no registry holds
      RecipeError               a setting, a flag or a line of a TOML file
      NetworkError              a network that can't be found, built or loaded
        ShapeError              it doesn't take images of this shape
      DataError                 a dataset file that is missing or damaged, or doesn't fit
        DataNotFoundError       a dataset that is in none of the places
      DeviceError               a device that isn't here
      RunError                  a run folder that can't be made, written or read
        CheckpointError         a checkpoint that isn't whole
      OutOfMemoryError          not even one image at a time fits
      ProcessGroupError         processes that can't train together
        RankGoneError           one of them has ended
      DivergedError             the loss became infinite or not a number
    KeyboardInterrupt           Python's own
      Interrupted               a signal stopped a training, which is saved
      StoppedAtOnce             a second signal did, and nothing was waited for
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable


class FiveByFiveError(Exception):
    """The root of the tree: something the user can mend. ``status`` is the shell's exit status."""

    status = 2


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> str:
    """The sentence for a name nobody knows: the nearest ones, then all of them."""
    known = sorted(known)
    spelling = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), spelling, n=3, cutoff=0.6)
    near = [spelling[each] for each in close]
    question = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return f"unknown {kind} {name!r}.{question} Known: {', '.join(known)}. {hint}".rstrip()


class UnknownNameError(FiveByFiveError, LookupError):
    """A name that no registry holds."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        super().__init__(unknown(kind, name, known, hint))


class RecipeError(FiveByFiveError, ValueError):
    """A recipe field, a flag or a line of a TOML file that can't be."""


class NetworkError(FiveByFiveError):
    """A network that can't be found, built or loaded."""


class ShapeError(NetworkError, ValueError):
    """The network doesn't take images of this shape."""


class DataError(FiveByFiveError):
    """A dataset file that is missing, truncated, corrupt, or doesn't fit its neighbours."""


class DataNotFoundError(DataError, FileNotFoundError):
    """A dataset that is in none of the places looked at; the message names each of them.

    ``str()`` gives the message alone (``FileNotFoundError`` would print an errno beside it).
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class DeviceError(FiveByFiveError):
    """A device that this machine, or this build of PyTorch, doesn't have."""


class RunError(FiveByFiveError):
    """A run folder that can't be made, written or read."""


class CheckpointError(RunError):
    """A checkpoint that isn't whole, or isn't what it says it is."""


class OutOfMemoryError(FiveByFiveError):
    """Not even one image at a time fits into the device's memory."""

    status = 1


class ProcessGroupError(FiveByFiveError):
    """Processes that can't train together."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


class RankGoneError(ProcessGroupError):
    """Another of the processes that train together has ended, or doesn't answer."""

    status = 1

    def __init__(self, size: int) -> None:
        gone = "process 1" if size == 2 else f"one of the processes 1 to {size - 1}"
        message = f"{gone} has ended or doesn't answer, so the training can't go on."
        super().__init__(message, self.status)


class DivergedError(FiveByFiveError):
    """The loss became infinite or not a number: the training can't go on to anything useful."""

    status = 1

    def __init__(self, lr: float, loss: float, where: str) -> None:
        super().__init__(
            f"the loss became {loss} {where}. Usually the learning rate is too high: try "
            f"--lr {lr / 10:g} instead of {lr:g}, or check how the pixels are scaled "
            f"(--mean, --std)."
        )


class Interrupted(KeyboardInterrupt):
    """A signal asked the training to stop. ``signal`` is which; the message says what is kept."""

    def __init__(self, asked: signal.Signals, message: str) -> None:
        super().__init__(message)
        self.signal = asked


class StoppedAtOnce(KeyboardInterrupt):
    """The training was asked to stop twice, so nothing is waited for. ``signal`` is what asked."""

    def __init__(self, asked: signal.Signals) -> None:
        super().__init__()
        self.signal = asked
