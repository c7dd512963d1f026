"""Trials: processes that are started, suffer, and are resumed; and what they leave behind."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fivebyfive.runs import checkpoints

from .injection import Fault

HERE = Path(__file__).parent
#: The longest that any trial may take, in seconds; only one that hangs does.
LONGEST = 60
#: The fields of a row that tell of time, and so are another's each time.
CLOCK = re.compile(r"images_per_s.*|data_share|.*_?seconds")


@dataclass(frozen=True)
class Ended:
    """How a process ended; ``status`` is minus the signal's number where a signal ended it."""

    status: int
    seconds: float
    out: str
    err: str
    log: list[str]

    @property
    def struck(self) -> float | None:
        """How long it lived on after the first fault struck, in seconds, if one did."""
        times = [float(line.split()[-1]) for line in self.log if line.startswith("! ")]
        return self._at - times[0] if times else None

    _at: float = 0.0

    def steps(self, size: int) -> list[int]:
        """The steps done, in order, counted from 1 over epochs of ``size`` steps."""
        done = [line.split()[2] for line in self.log if line.startswith("< train ")]
        return [
            (int(epoch) - 1) * size + int(step) for epoch, step in (at.split("/") for at in done)
        ]


@dataclass
class Victim:
    """A process that was started."""

    pid: int
    files: dict[str, Path]
    owner: Victims
    begun: float = field(default_factory=time.monotonic)

    def log(self) -> list[str]:
        """What it did so far."""
        path = self.files["log"]
        return path.read_text().splitlines() if path.exists() else []

    def until(self, name: str) -> None:
        """Return when the log has a line that matches."""
        deadline = time.monotonic() + LONGEST
        while not any(re.fullmatch(name, line) for line in self.log()):
            assert time.monotonic() < deadline, f"{name} never came: {self.log()[-3:]}"
            time.sleep(0.005)

    def wait(self) -> Ended:
        """Return when it has ended."""
        answer = self.owner.ask({"wait": self.pid, "seconds": LONGEST})
        out, err = (self.files[n].read_text(errors="replace") for n in ("out", "err"))
        assert not answer["late"], f"still there after {LONGEST} s: {self.log()[-3:]}\n{err}"
        seconds = answer["at"] - self.begun
        return Ended(answer["status"], seconds, out, err, self.log(), answer["at"])


class Victims:
    """Starts processes that suffer; see ``victim.py``. Each has one thread for its arithmetic."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder, self._count = folder, 0
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "FIVEBYFIVE_CACHE": str(cache),
            "FIVEBYFIVE_OFFLINE": "1",
            "MPLBACKEND": "agg",
        }
        self._server = subprocess.Popen(
            [sys.executable, str(HERE / "victim.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request to the process that forks, and its answer."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{json.dumps(request)}\n")
        self._server.stdin.flush()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer

    def start(
        self,
        *words: str | Path,
        run: Path | None = None,
        faults: Sequence[Fault] = (),
        clock: bool = False,
        task: str = "victim:shell",
        folder: Path | None = None,
    ) -> Victim:
        """Start ``fivebyfive WORDS``, or another task.

        Args:
            words: of the command.
            run: the run folder to watch; each stretch is one step then.
            faults: what befalls it there.
            clock: whether ``--checkpoint-every`` counts steps instead of seconds.
            task: another function to call with the words.
            folder: where it runs.
        """
        self._count += 1
        names = ("out", "err", "log")
        files = {name: self._folder / f"{self._count:05d}.{name}" for name in names}
        job = {
            **{name: str(path) for name, path in files.items()},
            "task": task,
            "arguments": [str(word) for word in words],
            "run": None if run is None else str(run),
            "faults": [asdict(fault) for fault in faults],
            "clock": clock,
            "folder": str(folder or self._folder),
        }
        return Victim(self.ask({"start": job})["pid"], files, self)

    def run(self, *words: str | Path, **options: Any) -> Ended:
        """Start and wait."""
        return self.start(*words, **options).wait()

    def close(self) -> None:
        """End the process that forks, and with it all others."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(timeout=30)
        self._server.stdout.close()


@dataclass(frozen=True)
class Setting:
    """What is trained: three short epochs, the last batch of each a smaller one."""

    name: str
    what: str
    engine: str
    limit: int = 70
    batch_size: int = 16
    epochs: int = 3
    every: int = 0  # steps between checkpoints
    more: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """In each epoch."""
        return -(-self.limit // self.batch_size)

    def begin(self, run: Path) -> list[str]:
        """The words that start it."""
        numbers = {"limit": self.limit, "batch-size": self.batch_size, "epochs": self.epochs}
        flags = [word for key, value in numbers.items() for word in (f"--{key}", str(value))]
        words = ["train", self.what, "--data", "sample", "--engine", self.engine, *flags]
        return [*words, *self.more, "--run", str(run), "--checkpoint-every", str(self.every)]

    def go_on(self, run: Path) -> list[str]:
        """The words that go on with it, or start it where there is nothing to go on with."""
        if not (run / "run.json").exists():
            return self.begin(run)
        own = [self.what] if ".py:" in self.what else []
        words = ["train", *own, "--resume", str(run)]
        return [*words, "--checkpoint-every", str(self.every)]


@dataclass(frozen=True)
class Outcome:
    """All of a finished run that may not depend on what befell it."""

    weights: str
    optimizer: str
    checkpoint: str
    rows: list[dict[str, Any]]
    result: dict[str, Any]


def some(cases: Iterable[Any], fast: Collection[Any]) -> list[Any]:
    """Cases for a test: those of ``fast`` in every run, the others by ``pytest -m faults``."""
    return [
        case if case in fast else pytest.param(case, marks=pytest.mark.faults) for case in cases
    ]


def outcome(run: Path) -> Outcome:
    """What a finished run left."""
    last = checkpoints.place(run, checkpoints.numbers(run)[-1])
    info = json.loads((run / "run.json").read_text())
    assert info["state"] == "finished"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return Outcome(
        digest(run / "model.safetensors"),
        digest(last / checkpoints.OPTIMIZER),
        digest(last / checkpoints.WEIGHTS),
        [timeless(row) for row in rows],
        {key: value for key, value in timeless(info["result"]).items() if key != "run"},
    )


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what the clock decides."""
    return {key: value for key, value in row.items() if not CLOCK.fullmatch(key)}


def digest(path: Path) -> str:
    """A file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def strays(run: Path) -> list[str]:
    """What lies in a run folder and nobody will ever read."""
    return [str(path.relative_to(run)) for path in run.rglob("*.part")]


def finish(victims: Victims, setting: Setting, run: Path, clock: bool = True) -> Ended:
    """Go on to the end, undisturbed."""
    ended = victims.run(*setting.go_on(run), run=run, clock=clock)
    assert ended.status == 0, f"status {ended.status}\n{ended.err}"
    assert not strays(run)
    return ended
