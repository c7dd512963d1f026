"""Starts processes that load a dataset made for the tests, and that may be killed on the way.

Reads a JSON list of specs a line, starts a process for each of them, all at once, and when they
have ended answers with a list of their exit statuses (minus the signal's number for one that was
killed) and what they said. This process itself does nothing but import what they all need.

A spec holds the ``cache`` folder, the ``files`` (name, size, SHA-256, MD5 of each) and ``mirrors``
of a dataset to be known as "made", and how the process is to die: right before the ``kill_at``-th
operation on a file of the cache, or in the middle of a write when a file is ``full_at`` bytes long.
With ``locks`` false, file locks do nothing. Its number stands in the file ``cache``.pid.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pooch  # noqa: F401  what a download needs

from fivebyfive import datasets
from fivebyfive.datasets import catalog, search  # noqa: F401
from fivebyfive.datasets.catalog import Entry, File

Spec = dict[str, Any]
OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove"}


def main() -> None:
    for line in sys.stdin:
        children = [start(spec) for spec in json.loads(line)]
        print(json.dumps([end(*child) for child in children]), flush=True)


def start(spec: Spec) -> tuple[int, int]:
    """A new process, and where to read what it says."""
    reader, writer = os.pipe()
    number = os.fork()
    if number:
        os.close(writer)
        return number, reader
    status = 0
    with os.fdopen(writer, "w") as out:
        try:
            out.write(json.dumps(load(spec)))
        except BaseException:
            out.write(traceback.format_exc())
            status = 1
    os._exit(status)


def end(number: int, reader: int) -> dict[str, Any]:
    with os.fdopen(reader) as out:
        said = out.read()
    return {"status": os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), "said": said}


def load(spec: Spec) -> dict[str, Any]:
    """What every one of the processes does."""
    cache = spec["cache"]
    Path(f"{cache}.pid").write_text(str(os.getpid()))
    os.environ["FIVEBYFIVE_CACHE"] = cache
    first, second, third, fourth = (File(*file) for file in spec["files"])
    catalog.CATALOG["made"] = Entry(
        name="made",
        title="made",
        classes=("a", "b", "c", "d"),
        files=(first, second, third, fourth),
        licence="none",
        mirrors=tuple(spec["mirrors"]),
    )
    if not spec.get("locks", True):
        without_locks()
    if spec.get("full_at"):
        die_when_full(spec["full_at"])
    counter = itertools.count(1)
    watch(cache, counter, spec.get("kill_at"))
    report = datasets.obtain("made")
    operations = next(counter) - 1
    return {"digests": dict(report.digests), "notes": report.notes, "operations": operations}


def without_locks() -> None:
    """As on a network file system that takes locks and holds none."""
    import fcntl

    def nothing(*_: Any) -> None:
        pass

    fcntl.flock = fcntl.lockf = nothing


def die_when_full(size: int) -> None:
    """Let the kernel kill this process in the middle of the write that makes a file longer."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def watch(cache: str, counter: Iterator[int], kill_at: int | None) -> None:
    """Count the operations on files below ``cache``; die right before one of them."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in OPERATIONS and str(arguments[0]).startswith(cache) and next(counter) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    main()
