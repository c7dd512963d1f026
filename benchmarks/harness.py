"""Timing contenders against each other so that the ratios can be trusted.

Machines are noisy, so the contenders take turns (A B C A B C …), each turn is a process of its own,
and what is told is the median over the rounds with the range beside it. Nothing else should run.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass
class Training:
    """What a contender measures while it trains; it calls these in its own process."""

    train_seconds: list[float] = field(default_factory=list)
    test_seconds: list[float] = field(default_factory=list)
    begin: float = field(default_factory=time.perf_counter)
    train_loss: float = 0.0
    test_acc: float = 0.0

    def report(self, images: int, test_images: int) -> dict[str, float]:
        """The figures, in images/s, seconds and MB. The first epoch, which warms up, isn't steady.

        ``warm_s`` is the whole training with a test each epoch, without imports and loading data.
        """
        steady = self.train_seconds[1:] or self.train_seconds
        tests = self.test_seconds[1:] or self.test_seconds
        return {
            "steady_images_s": images / statistics.median(steady),
            "forward_images_s": test_images / statistics.median(tests),
            "warm_s": time.perf_counter() - self.begin,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "train_loss": self.train_loss,
            "test_acc": self.test_acc,
        }


Contender = Callable[..., dict[str, float]]


def compare(
    program: str,
    names: Sequence[str],
    rounds: int,
    arguments: Sequence[str],
    *,
    all_must_run: bool = True,
) -> dict[str, list[dict[str, float]]]:
    """Run ``program --only NAME ARGUMENTS…`` for each name in turn, ``rounds`` times.

    Each run prints one JSON object as its last line; ``cold_s``, the wall clock of the whole
    process, is added to it. Where not ``all_must_run``, one that fails leaves no figures behind,
    and is left out of the rounds that follow.
    """
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in [name for name in names if len(results[name]) == number]:
            begin = time.perf_counter()
            # Python's warnings are left out: of the book's four workers there is one at each turn.
            done = subprocess.run(
                [sys.executable, "-W", "ignore", program, "--only", name, *arguments],
                capture_output=True,
                text=True,
                check=False,
            )
            cold = time.perf_counter() - begin
            if done.returncode:
                failure = f"{name} failed:\n{done.stderr}"
                if all_must_run:
                    raise SystemExit(failure)
                print(failure, file=sys.stderr, flush=True)
                continue
            print(done.stderr, end="", file=sys.stderr)  # what it had to tell
            figures = {"cold_s": cold, **json.loads(done.stdout.splitlines()[-1])}
            results[name].append(figures)
            line = ", ".join(f"{key} {value:.5g}" for key, value in figures.items())
            print(f"round {number + 1}/{rounds} {name}: {line}", file=sys.stderr, flush=True)
    return results


def spread(values: Sequence[float]) -> str:
    """``median (lowest–highest)``, with three significant figures or more."""
    return f"{_short(statistics.median(values))} ({_short(min(values))}–{_short(max(values))})"


def ratios(mine: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round, so that a drift of the machine's speed falls out."""
    return [a / b for a, b in zip(mine, theirs, strict=True)]


def machine() -> dict[str, Any]:
    """The machine and the versions, to stand beside every figure."""
    import numpy as np
    import torch

    from fivebyfive.training.devices import title

    return {
        "cpu": title(torch.device("cpu")),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def fma_peak(threads: int) -> float | None:
    """The measured peak of float32 multiply-adds in GFLOP/s; ``None`` without a C++ compiler."""
    source = Path(__file__).with_name("fma_peak.cpp")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/fma_peak"
        flags = ["-O3", "-march=native", "-ffp-contract=fast", "-pthread"]
        try:
            subprocess.run(["c++", *flags, str(source), "-o", program], check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        done = subprocess.run([program, str(threads)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def product_peak(card: Any, dtype: Any, size: int = 8192, times: int = 10) -> float:
    """What large matrix products of ``dtype`` reach on a CUDA card at best, in TFLOP/s."""
    import torch

    a, best = torch.randn(size, size, device=card, dtype=dtype), 0.0
    for _ in range(times):
        begin = time.perf_counter()
        for _ in range(times):
            a @ a
        torch.cuda.synchronize(card)
        best = max(best, 2e-12 * times * size**3 / (time.perf_counter() - begin))
    return best


def save(name: str, result: Mapping[str, Any]) -> Path:
    """Keep the raw figures as JSON beside the programs."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
