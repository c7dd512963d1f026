"""One writer a run folder.

The lock is the system's own on the file ``lock``, so it ends with the process that holds it,
however that ends; nothing is left to be cleared away. Beside it ``lock.json`` tells who held it
last.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..lib import files
from ..lib.errors import RunError

FILE, HOLDER = "lock", "lock.json"
#: How file systems say that they have no locks.
_NONE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the lock of a run folder, where its file system has locks.

    Raises:
        RunError: another process holds it; the message names it.
    """
    lock = FileLock(run / FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RunError(_busy(run)) from None
    except NotImplementedError:  # filelock's word for ENOSYS, before it made do without
        pass
    except OSError as error:
        if error.errno not in _NONE:
            raise RunError(f"can't write {run / FILE}: {error.strerror or error}.") from error
    try:
        _sign(run)
        yield
    finally:
        lock.release()


def _sign(run: Path) -> None:
    """Say who holds the lock; it holds without that, too, on a full disk for instance."""
    holder = {"pid": os.getpid(), "host": socket.gethostname()}
    with contextlib.suppress(OSError):
        files.write_json(run / HOLDER, holder)


def _busy(run: Path) -> str:
    holder = "another process"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        process = files.read_json(run / HOLDER)
        holder = f"process {int(process['pid'])} on {str(process['host'])[:64]!r}"
    return f"{run} is being trained by {holder}. Wait for it, or stop it first (Ctrl-C there)."
