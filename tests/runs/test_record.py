from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fivebyfive import runs
from fivebyfive.lib.errors import RunError, StoppedAtOnce
from fivebyfive.runs import checkpoints, record
from fivebyfive.runs.record import Record
from fivebyfive.training.events import Result
from fivebyfive.training.session import Session
from fivebyfive.verbs.running import finish


def state(folder: Path) -> str:
    return str(json.loads((folder / "run.json").read_text())["state"])


@pytest.mark.parametrize(
    ("error", "expected"), [(KeyboardInterrupt, "interrupted"), (RuntimeError, "failed")]
)
def test_the_state_tells_how_it_ended(
    session: Session,
    tmp_path: Path,
    error: type[BaseException],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> Result:
        assert state(tmp_path) == "running"
        raise error

    made = Record(tmp_path, session)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "run", fail)
        with pytest.raises(error):
            finish(session, made, [], None)
    assert state(tmp_path) == expected


def test_a_finished_run_has_all_its_files(session: Session, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    result = finish(session, Record(folder, session), [], None).result
    assert state(folder) == "finished"
    run = runs.load(folder)
    assert run.result == result
    assert run.info["changed"] == ["dataset", "batch_size", "epochs", "lr"]
    assert checkpoints.numbers(folder) == [1, 2]
    names = {path.name for path in folder.iterdir()}
    assert names == {"checkpoints", "curves.png", "metrics.jsonl", "model.safetensors", "run.json"}


def test_a_folder_that_was_just_taken(session: Session, tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    with pytest.raises(RunError, match="just taken by another run"):
        Record(tmp_path, session)


def test_the_first_error_is_the_one_told(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise RunError("no space left")

    def fail(*_: object, **__: object) -> Result:
        monkeypatch.setattr(Record, "_save", no_space)
        raise ValueError("first")

    made = Record(tmp_path, session)
    monkeypatch.setattr(Session, "run", fail)
    with pytest.raises(ValueError, match="first"):
        finish(session, made, [], None)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_of_a_training(
    number: signal.Signals, status: int, tiny_folder: Path, tmp_path: Path
) -> None:
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
    os.kill(process.pid, number)
    try:
        _, told = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == status
    assert "stopped at " in told
    assert "fivebyfive train --resume r" in told
    assert "Traceback" not in told
    assert state(tmp_path / "r") == "interrupted"
    run = runs.load(tmp_path / "r")
    assert run.result is None
    assert run.network() is not None  # the last finished epoch's
    assert run.metrics()


@pytest.fixture
def heard() -> Iterator[None]:
    """A SIGTERM that the run doesn't hear fails the test, and doesn't end it."""

    def unheard(*_: object) -> None:
        raise AssertionError("unheard")

    before = signal.signal(signal.SIGTERM, unheard)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("heard")
def test_asked_to_stop_when_all_is_computed_it_ends_well(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        drawn(*arguments)

    drawn = record.draw
    monkeypatch.setattr(record, "draw", asked)
    assert finish(session, Record(tmp_path, session), [], None).result
    assert state(tmp_path) == "finished"
    assert (tmp_path / "curves.png").exists()


@pytest.mark.usefixtures("heard")
def test_asked_twice_it_says_how_to_go_on(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(record, "draw", asked)
    with pytest.raises(StoppedAtOnce, match=r"Resume with: fivebyfive train .*--resume") as caught:
        finish(session, Record(tmp_path, session), [], None)
    assert caught.value.signal is signal.SIGTERM
    assert state(tmp_path) == "interrupted"
    assert runs.load(tmp_path).result is None


def test_a_folder_whose_name_is_no_utf8(session: Session, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"run \xff")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    finish(session, Record(folder, session), [], None)
    run = runs.load(folder)
    assert run.result is not None
    assert run.result["run"] == str(folder)


def test_a_run_that_cant_be_looked_into(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        runs.load(tmp_path / ("x" * 300))
