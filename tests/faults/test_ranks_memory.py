"""Memory runs out in one of several processes, outside the network: in its data or optimizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from .ranks import finished, needs_gloo, statuses, torchrun

pytestmark = [needs_gloo, pytest.mark.faults]

START = """
import os, sys
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook as register
from fivebyfive.cli import program
from fivebyfive.datasets.pixels import Pixels

calls = []
def fail(*_):
    calls.append(1)
    if {first} <= len(calls) < {first} + {times}:
        raise torch.OutOfMemoryError("out of memory")

def gather(*given, plain=Pixels.__call__):
    if torch.is_grad_enabled():
        fail()
    return plain(*given)

if os.environ.get("RANK") == "1":
    {put}
options = "lenet --data sample --limit 170 --batch-size 17 --optimizer adam --lr 0.01 --epochs 2"
sys.argv[1:] = ["train", *options.split(), "--device", "cpu"]
sys.exit(program())
"""


def start(cwd: Path, **how: object) -> tuple[int, str]:
    (cwd / "start.py").write_text(START.format(**how))
    process = torchrun(2, "start.py", cwd=cwd)
    _, errors = finished(process)
    assert process.returncode is not None
    return process.returncode, errors


@pytest.mark.parametrize("first", [3, 4, 5])
def test_memory_that_runs_out_before_the_forward_of_one(tmp_path: Path, first: int) -> None:
    """In the first steps: two calls come before, and the second step adds up other buckets."""
    status, errors = start(tmp_path, first=first, times=1, put="Pixels.__call__ = gather")
    assert status == 0, errors
    assert errors.count("out of memory at 17 images at a time: from here on 3 × 6 or 5") == 1


def test_memory_that_runs_out_in_the_optimizer_of_one(tmp_path: Path) -> None:
    """The others have done their step or are doing it; it can be tried once more, with room."""
    status, errors = start(tmp_path, first=5, times=1, put="register(fail)")
    assert status == 0, errors
    assert "out of memory" not in errors


def test_memory_that_runs_out_twice_in_the_optimizer_of_one(tmp_path: Path) -> None:
    status, errors = start(tmp_path, first=5, times=2, put="register(fail)")
    assert status != 0
    assert "fivebyfive: process 1 ran out of memory on cpu in the optimizer's step" in errors
    assert "Go on with fewer images at a time: --micro-batch 8." in errors
    assert 1 in statuses(errors)
    assert 0 not in statuses(errors)
