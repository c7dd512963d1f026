"""Several processes started by torchrun, for the tests beside it, and what came of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

import fivebyfive as fbf

needs_gloo = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="PyTorch has no gloo here"
)
#: In seconds: PyTorch may have to start in three processes on a busy machine.
PATIENCE = 200


def torchrun(processes: int, *command: str, cwd: Path) -> subprocess.Popen[str]:
    """Start ``command`` in several processes of one thread each."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(processes), *command),
        ],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(cwd: Path, *options: str, processes: int = 2) -> subprocess.Popen[str]:
    """``fivebyfive train``; the lone -- keeps torchrun from taking --run for one of its own."""
    command = ("-m", "--", "fivebyfive", "train", "--device", "cpu", *options)
    return torchrun(processes, *command, cwd=cwd)


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it printed on stdout and stderr, when it has ended."""
    try:
        return process.communicate(timeout=PATIENCE)
    finally:
        process.terminate()  # torchrun ends its processes then; killed, it would leave them
        process.communicate()


def statuses(errors: str) -> list[int]:
    """The processes' own exit statuses, as torchrun reports them."""
    return [int(status) for status in re.findall(r"exitcode +: (-?\d+)", errors)]


def rows(run: Path) -> list[dict[str, Any]]:
    return [row for row in fbf.load_run(run).metrics() if row["event"] != "notice"]
