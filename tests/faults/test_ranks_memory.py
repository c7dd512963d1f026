"""Memory that runs out in one of several processes ends all of them, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

import fivebyfive as fbf

from .ranks import finished, needs_gloo, statuses, torchrun

pytestmark = [needs_gloo, pytest.mark.usefixtures("one_thread")]

#: Trains; process ``rank`` finds no memory in ``place`` from the ``first`` time on.
START = """
import os, sys
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook as register
from fivebyfive.cli import program
from fivebyfive.datasets.pixels import Pixels

calls = []
def fail(*_):
    calls.append(1)
    if len(calls) >= {first}:
        raise torch.OutOfMemoryError("out of memory")

class Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images):
        return images.view_as(images)
    @staticmethod
    def backward(ctx, gradients):
        fail()
        return gradients

def gather(*given, plain=Pixels.__call__):
    if torch.is_grad_enabled() and {place!r} == "data":
        fail()
    images = plain(*given)
    return Backward.apply(images.requires_grad_()) if {place!r} == "backward" else images

if os.environ.get("RANK") == {rank!r}:
    Pixels.__call__ = gather
    if {place!r} == "optimizer":
        register(fail)
options = "lenet --data sample --limit 170 --batch-size 17 --optimizer adam --lr 0.01 --epochs 9"
sys.argv[1:] = ["train", *options.split(), "--device", "cpu", "--run", "r"]
sys.exit(program())
"""


@pytest.mark.parametrize(
    ("rank", "place", "first"),
    [
        ("1", "data", 13),
        *(
            pytest.param(*case, marks=pytest.mark.faults)
            for case in (
                ("0", "data", 13),
                ("1", "data", 3),  # in the first step: two calls come before
                ("1", "backward", 4),
                ("0", "backward", 14),
                ("1", "optimizer", 5),
                ("0", "optimizer", 1),
            )
        ),
    ],
)
def test_all_end_with_advice(tmp_path: Path, rank: str, place: str, first: int) -> None:
    """Of 17 images the first process computes 9 and the second 8."""
    (tmp_path / "start.py").write_text(START.format(rank=rank, place=place, first=first))
    process = torchrun(2, "start.py", cwd=tmp_path)
    _, errors = finished(process)
    images, fewer = {"0": (9, 4), "1": (8, 4)}[rank]
    assert process.returncode != 0
    message = f"fivebyfive: process {rank} ran out of memory on cpu with {images} images at a time"
    assert errors.count(message) == 1, errors
    assert f"Go on with fewer at a time: --micro-batch {fewer}." in errors
    assert errors.count("Traceback (most recent call last)") == 1  # torchrun's own
    assert 1 in statuses(errors)
    assert 0 not in statuses(errors)
    run = fbf.load_run(tmp_path / "r")
    assert run.info["state"] == "failed"
    if first > 12:  # the first epoch was done, and is kept
        assert rank == "0" or "Resume with: fivebyfive train --resume r" in errors
        assert [row["epoch"] for row in run.metrics() if row["event"] == "epoch"] == [1]
