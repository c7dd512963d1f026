"""A process that starts others, each of which may suffer: it imports all once and forks for each.

It reads a JSON object a line and answers with one. ``{"start": job}`` starts a process and tells
its ``pid``; ``{"wait": pid, "seconds": s}`` waits for its end, or kills it after that time.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pkgutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from injection import Fault, Watch, install, install_steps

import fivebyfive
from fivebyfive import cli
from fivebyfive.kernels.library import report
from fivebyfive.watching import curves


def main() -> None:
    """Serve until there is nobody left to ask; whoever still runs then is killed."""
    warm_up()
    running: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            pid = os.fork()
            if pid == 0:
                _live(request["start"])
            running.add(pid)
            answer: dict[str, Any] = {"pid": pid}
        else:
            answer = _wait(request["wait"], request["seconds"])
            running.discard(request["wait"])
        print(json.dumps(answer), flush=True)
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def warm_up() -> None:
    """Load all that a training would, without starting any thread: threads don't fork."""
    for module in pkgutil.walk_packages(fivebyfive.__path__, "fivebyfive."):
        if "._" not in module.name:  # the program itself, and the library of kernels
            importlib.import_module(module.name)
    torch.set_num_threads(1)
    report()
    weight = torch.zeros(1, requires_grad=True)
    weight.grad = torch.zeros(1)
    torch.optim.Adam([weight], fused=True).step()
    history = curves.History()
    curves.figure(history).savefig(io.BytesIO(), format="png")


def _wait(pid: int, seconds: float) -> dict[str, Any]:
    deadline, late = time.monotonic() + seconds, False
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(status)
            return {"status": status, "at": time.monotonic(), "late": late}
        if time.monotonic() > deadline and not late:
            late = True
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def _live(job: dict[str, Any]) -> None:
    """All of a forked process's life."""
    status = 70
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for name, number in (("out", 1), ("err", 2)):
            os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.chdir(job["folder"])
        if job["run"] is not None:
            faults = [Fault(**fault) for fault in job["faults"]]
            watch = Watch(Path(job["run"]), Path(job["log"]), faults)
            install_steps(watch, job["clock"])
            install(watch)
        status = _task(job["task"])(*job["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _task(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def shell(*words: str) -> int:
    """What ``fivebyfive WORDS`` does."""
    return cli.main(words)


if __name__ == "__main__":
    main()
