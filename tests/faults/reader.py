"""Loads the datasets in the folders that stdin names, one a line, and says as JSON what came of it:
the error, the processor seconds it took, and the most memory this process ever held, in MiB.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
from pathlib import Path

from fivebyfive import datasets
from fivebyfive.lib.errors import FiveByFiveError

STATUS = Path("/proc/self/status")


def peak() -> float:
    """The most memory this process ever held, in MiB."""
    if STATUS.exists():  # ru_maxrss starts with what the process held that started this one
        return int(re.findall(r"VmHWM:\s*(\d+) kB", STATUS.read_text())[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


def main() -> None:
    for line in sys.stdin:
        folder = line.rstrip("\n")
        os.chdir(folder)
        error = None
        begun = time.process_time()
        try:
            datasets.obtain(folder)
        except FiveByFiveError as refusal:
            error = f"{type(refusal).__name__}: {refusal}"
        seconds = time.process_time() - begun
        print(json.dumps({"error": error, "seconds": seconds, "peak": peak()}), flush=True)


if __name__ == "__main__":
    main()
