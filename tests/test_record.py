from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fivebyfive import recipes, runs
from fivebyfive.errors import RunError
from fivebyfive.record import recording
from fivebyfive.training.session import Session, prepare


@pytest.fixture
def session(tiny_folder: Path) -> Session:
    return prepare(recipes.get("lenet-d2l").but(lr=0.5), folder=tiny_folder, device="cpu")


def state(folder: Path) -> str:
    return str(json.loads((folder / "run.json").read_text())["state"])


@pytest.mark.parametrize(
    ("error", "expected"), [(KeyboardInterrupt, "interrupted"), (RuntimeError, "failed")]
)
def test_the_state_tells_how_it_ended(
    session: Session, tmp_path: Path, error: type[BaseException], expected: str
) -> None:
    def fail() -> None:
        with recording(tmp_path / "r", session):
            assert state(tmp_path / "r") == "running"
            raise error

    with pytest.raises(error):
        fail()
    assert state(tmp_path / "r") == expected
    with recording(tmp_path / "s", session):
        pass
    assert state(tmp_path / "s") == "finished"


def test_what_differs_from_the_named_recipe_is_kept(session: Session, tmp_path: Path) -> None:
    with recording(tmp_path / "r", session) as record:
        assert runs.load(record.path).info["changed"] == ["dataset", "lr"]


def test_the_first_error_is_the_one_told(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise RunError("no space left")

    def fail() -> None:
        with recording(tmp_path / "r", session):
            monkeypatch.setattr(runs, "write_info", no_space)
            raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        fail()


def test_ctrl_c_in_the_middle_of_a_training(tiny_folder: Path, tmp_path: Path) -> None:
    words = ["train", "lenet", "--data", str(tiny_folder), "--epochs", "100000", "--run", "r"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fivebyfive", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    weights = tmp_path / "r" / "model.safetensors"
    deadline = time.monotonic() + 120
    while not weights.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped" in told
    assert "Traceback" not in told
    assert state(tmp_path / "r") == "interrupted"
    run = runs.load(tmp_path / "r")
    assert run.result is None
    assert run.network() is not None  # the last finished epoch's
    assert run.metrics()
