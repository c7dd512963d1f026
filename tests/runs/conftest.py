"""Short runs that the tests of this room train, cut and go on with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fivebyfive import recipes
from fivebyfive.runs import checkpoints
from fivebyfive.training.events import Event, Stretch
from fivebyfive.training.session import Session, prepare

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
        if isinstance(event, Stretch):
            self._left -= 1
            if self._left == 0:
                self._cut()

    def close(self) -> None:
        pass


def fingerprint(run: Path) -> dict[str, Any]:
    """What two runs that came to the same end have in common, to the last bit."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = checkpoints.place(run, checkpoints.numbers(run)[-1])
    return {
        "weights": hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest(),
        "optimizer": hashlib.sha256((last / "optimizer.safetensors").read_bytes()).hexdigest(),
        "rows": [{k: v for k, v in row.items() if k not in CLOCK} for row in rows],
    }
