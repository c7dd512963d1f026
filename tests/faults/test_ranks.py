"""Several processes compute what one computes."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.torch import load_file

import fivebyfive as fbf
from fivebyfive.lib.errors import Interrupted

from .conftest import NETWORKS
from .ranks import finished, needs_gloo, rows, torchrun, train

pytestmark = [needs_gloo, pytest.mark.usefixtures("one_thread")]

#: Trainings of 60 steps, each of which is a mark: batches of 17 don't divide by two, and the last
#: one of 86 images is a single image.
UNEVEN = {"data": "sample", "limit": 86, "batch_size": 17, "epochs": 10, "device": "cpu"}
TRAININGS: dict[str, dict[str, Any]] = {
    "lenet": {"what": "lenet"},
    "dropout": {"what": "nets.py:alexnet_small", "optimizer": "sgd", "lr": 0.01},
    "parts": {"what": "nets.py:alexnet_small", "optimizer": "sgd", "lr": 0.01, "micro_batch": 4},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "nets.py").write_text(NETWORKS)
    return folder


class Cut:
    """Asks the training to stop at its ``nth`` mark."""

    def __init__(self, nth: int) -> None:
        self._left = nth

    def on(self, event: object) -> None:
        self._left -= getattr(event, "mark", False)
        if self._left == 0:
            signal.raise_signal(signal.SIGTERM)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def alone(place: Path) -> None:
    """Each training by one process; and ``cut``, LeNet's up to the middle of its second epoch."""
    before = Path.cwd()
    os.chdir(place)
    try:
        common = {**UNEVEN, "engine": "eager", "watch": "quiet"}
        for name, training in TRAININGS.items():
            fbf.train(**common, **training, run=f"one-{name}")
        cut = Cut(8)
        with pytest.raises(Interrupted):
            fbf.train("lenet", **common, run="cut", listeners=[cut])
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def together(place: Path, alone: None) -> dict[str, Any]:
    """The same trainings by two processes, and the one that was cut resumed by two."""
    common = {**UNEVEN, "watch": "lines"}
    calls: list[Any] = [
        ["train", {**common, **training, "run": f"two-{name}"}]
        for name, training in TRAININGS.items()
    ]
    calls.append(["resume", {"run": "cut", "watch": "quiet"}])
    (place / "calls.json").write_text(json.dumps(calls))
    script = Path(__file__).with_name("several.py")
    process = torchrun(2, str(script), str(place / "calls.json"), cwd=place)
    output, errors = finished(process)
    assert process.returncode == 0, errors
    results = [json.loads((place / f"results-{rank}.json").read_text()) for rank in (0, 1)]
    return {"output": output, "errors": errors, "results": results}


def steps_at(row: dict[str, Any]) -> int:
    """The steps done by a row of the log, of six in each epoch."""
    return 6 * (row["epoch"] - 1) + row.get("step", 6)


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_compute_what_one_computes(
    place: Path, alone: None, together: dict[str, Any], name: str, tolerances: ModuleType
) -> None:
    one, two = rows(place / f"one-{name}"), rows(place / f"two-{name}")
    assert [row["event"] for row in one].count("mark") == 60
    assert len(two) == len(one)
    for mine, theirs in zip(one, two, strict=True):
        for key in mine.keys() & {"event", "epoch", "step", "images", "train_acc", "test_acc"}:
            assert mine[key] == theirs[key]
        most = tolerances.of_training(steps_at(mine), UNEVEN["batch_size"])
        for key in mine.keys() & {"train_loss", "test_loss"}:
            assert theirs[key] == pytest.approx(mine[key], rel=most)
    most = tolerances.of_training(60, UNEVEN["batch_size"])
    weights = load_file(place / f"two-{name}" / "model.safetensors")
    for key, value in load_file(place / f"one-{name}" / "model.safetensors").items():
        assert (weights[key] - value).abs().max() <= most * value.abs().max()


def test_two_go_on_where_one_was_cut(
    place: Path, alone: None, together: dict[str, Any], tolerances: ModuleType
) -> None:
    run = fbf.load_run(place / "cut")
    assert run.info["state"] == "finished"
    (again,) = run.info["resumed"]
    assert again["from"] == "epoch 2, after step 2"
    assert "the number of processes changed from 1 to 2" in again["notes"][0]
    one, two = rows(place / "one-lenet"), rows(run.path)
    assert [row["event"] for row in two] == [row["event"] for row in one]
    for mine, theirs in zip(one, two, strict=True):
        most = tolerances.of_training(steps_at(mine), UNEVEN["batch_size"])
        assert theirs["train_loss"] == pytest.approx(mine["train_loss"], rel=most)


def test_both_know_the_result_and_the_first_alone_tells(
    place: Path, together: dict[str, Any]
) -> None:
    first, second = together["results"]
    assert first == second
    assert [place / run["path"] for run in first[:-1]] == [
        place / f"two-{name}" for name in TRAININGS
    ]
    assert together["output"] == ""
    told = together["errors"]
    assert told.count("recipe: ") == told.count("2 processes share each batch") == len(TRAININGS)
    assert told.count("epoch  1/10") == len(TRAININGS)


@pytest.mark.faults
def test_more_processes_than_images_in_the_last_batch(
    tmp_path: Path, tolerances: ModuleType
) -> None:
    options = ("lenet", "--data", "sample", "--limit", "9", "--batch-size", "4", "--epochs", "3")
    process = train(tmp_path, *options, "--run", "three", processes=3)
    _, errors = finished(process)
    assert process.returncode == 0, errors
    alone = fbf.train(
        "lenet",
        data="sample",
        limit=9,
        batch_size=4,
        epochs=3,
        engine="eager",
        device="cpu",
        run=tmp_path / "one",
        watch="quiet",
    )
    for mine, theirs in zip(rows(alone.path), rows(tmp_path / "three"), strict=True):
        most = tolerances.of_training(9, 4)
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=most)
        assert math.isfinite(mine["train_loss"])
