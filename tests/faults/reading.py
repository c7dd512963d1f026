"""Everything that reads a run folder, done to one that a stranger made; what it cost is noted."""

from __future__ import annotations

import json
import resource
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fivebyfive as fbf

#: Enough for whoever behaves; whoever doesn't gets a MemoryError instead of this machine's memory.
ROOM = 2 << 30

ACTIONS: dict[str, Callable[[str], Any]] = {
    "load_run": fbf.load_run,
    "network": lambda run: fbf.load_run(run).network(),
    "metrics": lambda run: fbf.load_run(run).metrics(),
    "test": lambda run: fbf.test(run, pictures=False),
    "resume": lambda run: fbf.resume(run, watch="quiet"),
}


def everything(run: str, report: str) -> int:
    """Do it all, with a line in ``report`` for each; always leaves well."""
    used = _memory("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    with Path(report).open("w", buffering=1) as file:
        for name, action in ACTIONS.items():
            file.write(f"{json.dumps({'began': name})}\n")
            file.write(f"{json.dumps({'action': name, **_measured(lambda a=action: a(run))})}\n")
    return 0


def _measured(action: Callable[[], Any]) -> dict[str, Any]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    before, begun = _memory("VmRSS"), time.process_time()
    error, trace = None, ""
    try:
        action()
    except BaseException as caught:
        error = "refused" if isinstance(caught, fbf.FiveByFiveError) else type(caught).__name__
        trace = str(caught) if error == "refused" else traceback.format_exc()
    seconds = time.process_time() - begun
    return {"error": error, "told": trace, "seconds": seconds, "bytes": _memory("VmHWM") - before}


def _memory(kind: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) << 10
    raise AssertionError(kind)
