"""Faults put into a process from outside, so that the package needs no hook for them.

Every operation on the run folder and every call of the engine gets a name:

    write run.json.part        fsync checkpoints/000003.part/state.json     train 2/5
    link run.json              rename checkpoints/000003                    evaluate

A :class:`Watch` keeps a log of them, and has a :class:`Fault` befall the process at one of them.
Temporary names lose their random part, so that one run's names are another's, too.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_TEMPORARY = re.compile(r"\.([^/]+)\.[0-9a-f]{12}\.part")


@dataclass(frozen=True)
class Fault:
    """What happens, and where: at the ``nth`` operation whose whole name matches ``at``."""

    at: str
    do: str = "SIGKILL"  # or another signal, an error such as ENOSPC, or "hang"
    nth: int = 1
    when: str = "before"  # or "middle" or "after"

    @property
    def error(self) -> int | None:
        """The number of the error it is, if it is one."""
        return getattr(errno, self.do, None)


class Watch:
    """Names, logs and strikes; made once in a process that is there to suffer.

    The log has ``> NAME`` before an operation, ``< NAME`` after it, and ``! NAME SECONDS`` where
    the fault struck. A disk that is full once stays so: after an ENOSPC every write raises it.
    """

    def __init__(self, run: Path, log: Path, faults: list[Fault]) -> None:
        self._run = os.path.abspath(run)  # noqa: PTH100 (resolve() would follow a link)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._left = {fault: fault.nth for fault in faults}
        self._full = False
        self._counting = threading.Lock()
        self.steps = 0

    def perform(
        self, name: str, act: Callable[[], Any], half: Callable[[], Any] | None = None
    ) -> Any:
        """Do ``act``, or what a fault makes of it; ``half`` does half of it."""
        self._note(f"> {name}")
        if self._full and name.startswith("write"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fault = self._hit(name)
        if fault is not None and fault.when == "before":
            self._strike(fault, name)
        if fault is not None and fault.when == "middle":
            if half is None:
                return self._strike_beside(fault, name, act)
            done = half()
            if fault.error == errno.ENOSPC:  # the system tells it by a short write
                self._full = True
                self._note(f"! {name} {time.monotonic()}")
                return done
            self._strike(fault, name)
        result = act()
        self._note(f"< {name}")
        if fault is not None and fault.when == "after":
            self._strike(fault, name)
        return result

    def name_of(self, path: Any) -> str | None:
        """What a path in the run folder is called; ``None`` for any other."""
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        try:
            whole = os.path.abspath(os.fspath(path))  # noqa: PTH100
        except TypeError:  # something that is a file already
            return None
        if whole == self._run:
            return "."
        if not isinstance(whole, str) or not whole.startswith(f"{self._run}/"):
            return None
        return _TEMPORARY.sub(r"\1.part", whole[len(self._run) + 1 :])

    def _hit(self, name: str) -> Fault | None:
        with self._counting:
            for fault in self._left:
                if re.fullmatch(fault.at, name):
                    self._left[fault] -= 1
                    if self._left[fault] == 0:
                        return fault
        return None

    def _strike(self, fault: Fault, name: str) -> None:
        self._note(f"! {name} {time.monotonic()}")
        if fault.error is not None:
            self._full = fault.error == errno.ENOSPC
            raise OSError(fault.error, os.strerror(fault.error))
        if fault.do == "hang":
            time.sleep(3600)
        os.kill(os.getpid(), getattr(signal, fault.do))
        if fault.do == "SIGKILL":
            time.sleep(3600)  # until it arrives

    def _strike_beside(self, fault: Fault, name: str, act: Callable[[], Any]) -> Any:
        thread = threading.Timer(0.0005, self._strike, (fault, name))
        thread.start()
        try:
            result = act()
        finally:
            thread.join()
        self._note(f"< {name}")
        return result

    def _note(self, line: str) -> None:
        os.write(self._log, f"{line}\n".encode())


class _File(io.FileIO):
    """A file in the run folder whose writes are watched."""

    def __init__(self, watch: Watch, name: str, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._watch, self._name = watch, name

    def write(self, data: Any) -> Any:
        content = bytes(data)

        def write(part: bytes) -> int:
            return io.FileIO.write(self, part) or 0

        half = content[: len(content) // 2]
        name = f"write {self._name}"
        return self._watch.perform(name, lambda: write(content), lambda: write(half))

    def truncate(self, size: int | None = None) -> Any:
        name = f"truncate {self._name}"
        return self._watch.perform(name, lambda: io.FileIO.truncate(self, size))


def install(watch: Watch) -> None:
    """Have all operations of this process pass through ``watch``, for the rest of its life."""
    _watch_opening(watch)
    for owner, function, kind, which in (
        (os, "fsync", "fsync", 0),
        (os, "link", "link", 1),
        (Path, "rename", "rename", 1),
        (Path, "replace", "rename", 1),
        (Path, "mkdir", "mkdir", 0),
        (Path, "unlink", "remove", 0),
    ):
        _watch_calls(watch, owner, function, kind, which)
    _watch_removal(watch)


def _watch_opening(watch: Watch) -> None:
    real, real_low = io.open, os.open

    def open_(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: Any = None,
        errors: Any = None,
        newline: Any = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        name = None if isinstance(file, int) else watch.name_of(file)
        if name is None or not set(mode) & set("wax+"):
            return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        plain = mode.replace("b", "").replace("t", "")
        raw = watch.perform(
            f"open {name}", lambda: _File(watch, name, os.fspath(file), plain, opener=opener)
        )
        if buffering == 0:
            return raw
        buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def open_low(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        name = watch.name_of(path) if flags & os.O_CREAT else None
        if name is None:
            return real_low(path, flags, *arguments, **options)
        opened: int = watch.perform(
            f"open {name}", lambda: real_low(path, flags, *arguments, **options)
        )
        return opened

    io.open, builtins.open, os.open = open_, open_, open_low


def _watch_calls(watch: Watch, owner: Any, function: str, kind: str, which: int) -> None:
    real = getattr(owner, function)

    def call(*arguments: Any, **options: Any) -> Any:
        name = watch.name_of(arguments[which])
        if name is None:
            return real(*arguments, **options)
        return watch.perform(f"{kind} {name}", lambda: real(*arguments, **options))

    setattr(owner, function, call)


def _watch_removal(watch: Watch) -> None:
    real: Any = shutil.rmtree

    def rmtree(path: Any, *arguments: Any, **options: Any) -> None:
        name = watch.name_of(path)
        if name is None:
            return real(path, *arguments, **options)

        def half() -> None:
            os.unlink(next(iter(Path(path).iterdir())))  # noqa: PTH108 (Path's is watched)

        return watch.perform(f"remove {name}", lambda: real(path, *arguments, **options), half)

    shutil.rmtree = rmtree


def install_steps(watch: Watch, clock: bool) -> None:
    """Have stretches of one step each, watched; with ``clock`` a second is a step to the saving."""
    from fivebyfive import engines
    from fivebyfive.runs import checkpointer
    from fivebyfive.training import loop

    real = engines.make

    def make(*arguments: Any, **options: Any) -> Any:
        engine: Any = real(*arguments, **options)
        train, evaluate = engine.train, engine.evaluate

        def watched(epoch: Any, first: int, stop: int, tally: Any) -> Any:
            name = f"train {epoch.number}/{first + 1}"
            result = watch.perform(name, lambda: train(epoch, first, stop, tally))
            watch.steps += 1
            return result

        engine.train = watched
        engine.evaluate = lambda *between: watch.perform("evaluate", lambda: evaluate(*between))
        return engine

    engines.make = make
    loop.ChunkSizer = lambda: SimpleNamespace(steps=1, took=lambda *_: None)
    if clock:
        checkpointer.time = SimpleNamespace(monotonic=lambda: float(watch.steps))
