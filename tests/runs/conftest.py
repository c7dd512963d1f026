"""Short runs that the tests of this room train, cut and go on with."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fivebyfive as fbf
from fivebyfive import recipes
from fivebyfive.lib.errors import Interrupted
from fivebyfive.runs import checkpoints
from fivebyfive.training import loop
from fivebyfive.training.events import ChunkDone, Event
from fivebyfive.training.session import Session, prepare

Train = Callable[..., fbf.Run]

CLOCK = {
    "images_per_s",
    "images_per_s_compute",
    "data_share",
    "train_seconds",
    "test_seconds",
}


@pytest.fixture
def session(tiny_folder: Path) -> Session:
    """LeNet on the tiny dataset: 2 epochs of 4 steps."""
    recipe = recipes.get("lenet-d2l").but(lr=0.5, epochs=2, batch_size=16)
    return prepare(recipe, folder=tiny_folder, device="cpu")


class CutAfter:
    """A listener that asks the training to stop after some stretches, as Ctrl-C does."""

    def __init__(self, stretches: int, cut: Callable[[], None]) -> None:
        self._left, self._cut = stretches, cut

    def on(self, event: Event) -> None:
        if isinstance(event, ChunkDone):
            self._left -= 1
            if self._left == 0:
                self._cut()

    def close(self) -> None:
        pass


@pytest.fixture
def step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stretch is one step long, so that a run can be cut after any."""

    class One:
        steps = 1

        def took(self, steps: int, seconds: float) -> None:
            pass

    monkeypatch.setattr(loop, "ChunkSizer", One)


@pytest.fixture
def train(step_by_step: None, tiny_folder: Path, tmp_path: Path) -> Train:
    """Train a network on the tiny dataset, cut after some steps if asked to."""

    def train(
        what: Any = "lenet", name: str = "r", cut: int | None = None, **settings: Any
    ) -> fbf.Run:
        ask = CutAfter(cut or 0, lambda: signal.raise_signal(signal.SIGINT))
        given = {"lr": 0.05, "epochs": 3, "batch_size": 16, **settings}
        where = {"data": tiny_folder, "run": tmp_path / name, "watch": "quiet"}
        if cut is None:
            return fbf.train(what, **where, **given)
        with pytest.raises(
            Interrupted, match=f"fivebyfive train .*--resume {tmp_path / name} --data"
        ):
            fbf.train(what, **where, listeners=[ask], **given)
        return fbf.load_run(tmp_path / name)

    return train


def resume(run: fbf.Run | Path, data: Path, **settings: Any) -> fbf.Run:
    """Go on with the run, whose data lies in a folder."""
    path = run.path if isinstance(run, fbf.Run) else run
    return fbf.resume(path, data=data, watch="quiet", **settings)


def fingerprint(run: Path) -> dict[str, Any]:
    """What two runs that came to the same end have in common, to the last bit."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = checkpoints.place(run, checkpoints.numbers(run)[-1])
    return {
        "weights": hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest(),
        "optimizer": hashlib.sha256((last / "optimizer.safetensors").read_bytes()).hexdigest(),
        "rows": [{k: v for k, v in row.items() if k not in CLOCK} for row in rows],
    }


def files_of(run: Path) -> dict[Path, bytes]:
    """All that a run holds, but for who held its lock last."""
    paths = (path for path in run.rglob("*") if path.is_file() and path.name != "lock.json")
    return {path: path.read_bytes() for path in paths}
