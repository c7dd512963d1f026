"""What checkpoints cost a training.

    python benchmarks/checkpoints.py lenet-d2l --rounds 15

Trained is the same recipe with the run folder's checkpoints and without any, in turns, each turn a
process of its own. ``train_s`` is the training with its tests; ``waited_s`` is the part of it that
the training spent on checkpoints (copying in memory, starting the writer, waiting for the one
before, and at the end for the last); ``writer_s`` is the processor's time that the writer took
beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from fivebyfive.runs.checkpointer import RunCheckpointer
from fivebyfive.runs.record import Record
from fivebyfive.training.loop import NoCheckpointer
from fivebyfive.verbs.running import finish
from fivebyfive.verbs.train import ready
from harness import compare, machine, ratios, save, spread


class Timed(RunCheckpointer):
    """Checkpoints as they are, with a clock beside them."""

    waited = written = 0.0

    def keep(self, *args: Any) -> None:
        """As it is."""
        self._timed(super().keep, *args)

    def save_now(self, *args: Any, **named: Any) -> None:
        """As it is."""
        self._timed(super().save_now, *args, **named)

    def wait(self) -> None:
        """As it is."""
        self._timed(super().wait)

    def _write(self, *args: Any) -> None:
        begin = time.thread_time()
        super()._write(*args)
        self.written += time.thread_time() - begin

    def _timed(self, call: Any, *args: Any, **named: Any) -> None:
        begin = time.perf_counter()
        call(*args, **named)
        self.waited += time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="lenet-d2l")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=("kept", "unkept"), help="run one, once, in this process")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.recipe, options.only == "kept")))
        return
    results = compare(__file__, ["unkept", "kept"], options.rounds, [options.recipe])
    kept, unkept = results["kept"], results["unkept"]
    waited = [100 * each["waited_s"] / each["train_s"] for each in kept]
    about = {**machine(), "recipe": options.recipe, "rounds": options.rounds}
    written = [100 * each["writer_s"] / each["train_s"] / about["threads"] for each in kept]
    more = [
        100 * (ratio - 1)
        for ratio in ratios([e["train_s"] for e in kept], [e["train_s"] for e in unkept])
    ]
    print(f"waited for checkpoints: {spread(waited)} % of the training")
    print(f"the writer beside it: {spread(written)} % of the processor's time in the training")
    print(f"training with them, against without: {spread(more)} % longer, round by round")
    medians = [statistics.median(e["train_s"] for e in each) for each in (kept, unkept)]
    print(f"by the medians: {100 * (medians[0] / medians[1] - 1):.2f} % longer")
    path = save(f"checkpoints-{options.recipe}", {"about": about, "results": results})
    print(f"raw figures: {path}")


def measure(recipe: str, kept: bool) -> dict[str, float]:
    """Train in this process; what it took, in seconds."""
    session = ready(recipe)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        record = Record(Path(folder), session)
        checkpointer = Timed(record.path, session, record._log)
        record.checkpointer = checkpointer if kept else _Nothing()
        begin = time.perf_counter()
        finish(session, record, [], None)
        seconds = time.perf_counter() - begin
        return {
            "train_s": seconds,
            "waited_s": checkpointer.waited,
            "writer_s": checkpointer.written,
        }


class _Nothing(NoCheckpointer):
    def wait(self) -> None:
        """Nothing to wait for."""


if __name__ == "__main__":
    main()
