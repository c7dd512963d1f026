"""When one of several processes is killed or asked to stop, all end, and the run can go on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fivebyfive as fbf

from .ranks import PATIENCE, finished, needs_gloo, rows, statuses, train

pytestmark = [needs_gloo, pytest.mark.usefixtures("one_thread")]
LONG = ("--data", "sample", "--limit", "170", "--batch-size", "17", "--epochs", "100000")


def wait_for(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    """Start a long training by two processes; gives torchrun, and the second one's number."""
    (tmp_path / "watched.py").write_text(
        "import os, pathlib\n"
        "from fivebyfive.networks.lenet import lenet as net\n"
        "if 'RANK' in os.environ:\n"
        "    pathlib.Path(f\"{os.environ['RANK']}.pid\").write_text(str(os.getpid()))\n"
    )
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> tuple[subprocess.Popen[str], int]:
        process = train(
            tmp_path, "watched.py:net", *LONG, "--run", "r", "--checkpoint-every", "0", *options
        )
        started.append(process)
        log = tmp_path / "r" / "metrics.jsonl"
        wait_for(lambda: log.exists() and '"event": "epoch"' in log.read_text())
        return process, int((tmp_path / "1.pid").read_text())

    yield start
    for process in started:
        process.terminate()
        process.communicate()


def test_when_one_is_killed_all_end_and_one_can_go_on(
    tmp_path: Path, running: Callable[..., tuple[subprocess.Popen[str], int]]
) -> None:
    process, second = running()
    os.kill(second, signal.SIGKILL)
    killed = time.monotonic()
    _, errors = finished(process)
    assert time.monotonic() - killed < 30
    assert process.returncode != 0
    assert "fivebyfive: process 1 has ended or doesn't answer" in errors
    assert "Resume with: fivebyfive train watched.py:net --resume r" in errors
    assert errors.count("Traceback (most recent call last)") == 1  # torchrun's own
    assert -9 in statuses(errors)
    assert 0 not in statuses(errors)
    run = fbf.load_run(tmp_path / "r")
    assert run.info["state"] == "failed"
    epochs = rows(run.path)[-1]["epoch"] + 1
    done = fbf.resume(
        run.path,
        network=f"{tmp_path / 'watched.py'}:net",
        data="sample",
        epochs=epochs,
        allow=["recipe"],
        watch="quiet",
    )
    assert done.info["state"] == "finished"
    assert [row["epoch"] for row in rows(run.path) if row["event"] == "epoch"] == [
        *range(1, epochs + 1)
    ]


@pytest.mark.faults
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_when_asked_to_stop_all_do_and_nothing_is_lost(
    tmp_path: Path, running: Callable[..., tuple[subprocess.Popen[str], int]], name: str
) -> None:
    process, _ = running()
    process.send_signal(signal.Signals[name])
    _, errors = finished(process)
    assert process.returncode != 0
    assert errors.count("fivebyfive: stopped at ") == 1
    assert fbf.load_run(tmp_path / "r").info["state"] == "interrupted"


@pytest.mark.faults
def test_a_signal_to_one_stops_all(
    tmp_path: Path, running: Callable[..., tuple[subprocess.Popen[str], int]]
) -> None:
    process, second = running()
    os.kill(second, signal.SIGTERM)
    _, errors = finished(process)
    run = fbf.load_run(tmp_path / "r")
    assert run.info["state"] in ("interrupted", "failed")  # the latter in the midst of a test
    assert errors.count("Resume with: fivebyfive train") == 1
