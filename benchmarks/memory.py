"""What is estimated of a training's memory, beside the most it really took.

    python benchmarks/memory.py
    python benchmarks/memory.py --recipes alexnet-d2l --engine eager
    python benchmarks/memory.py --device cuda --engine cuda

Each training is a process of its own: it is made ready, estimated, trained for an epoch of a few
batches with a checkpoint every few seconds, and tested. Measured is the most real memory that the
system ever gave that process, interpreter and libraries included; on a card, the most that PyTorch
ever gave out of the card's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from fivebyfive.lib import free_memory
from fivebyfive.memory.estimate import estimate_memory
from fivebyfive.runs import folder
from fivebyfive.runs.record import Record
from fivebyfive.verbs.running import finish
from fivebyfive.verbs.train import ready
from harness import machine, save

BATCHES = {
    "lenet-d2l": (64, 256, 1024),
    "convnet-mnist": (128, 512, 2048),
    "alexnet-d2l": (32, 64, 128),
}
STEPS = 8
#: So many images at least, so that the test has whole batches, too.
LEAST = 1000
#: Seconds between checkpoints: AlexNet writes some, and trains on meanwhile.
EVERY = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", choices=BATCHES, default=list(BATCHES))
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs=2, metavar=("RECIPE", "BATCH"), help="one, in this process")
    options = parser.parse_args()
    if options.only:
        recipe, batch = options.only
        print(json.dumps(measure(recipe, int(batch), options.engine, options.device)))
        return
    rows = []
    for recipe in options.recipes:
        for batch in BATCHES[recipe]:
            rows.append(row := alone(recipe, batch, options.engine, options.device))
            print(
                f"{recipe:14} {row['engine']:6} batch {batch:5}: estimated "
                f"{row['peak'] / 1e6:6.0f} MB, measured {row['measured'] / 1e6:6.0f} MB, "
                f"{100 * (row['peak'] / row['measured'] - 1):+5.1f} %",
                flush=True,
            )
    place = "" if options.device == "cpu" else f"{options.device.replace(':', '')}-"
    name = f"memory-{place}{options.engine}"
    print(f"raw figures: {save(name, {'about': machine(), 'results': rows})}")


def alone(recipe: str, batch: int, engine: str, device: str) -> dict[str, Any]:
    """:func:`measure` in a fresh process."""
    words = ["--only", recipe, str(batch), "--engine", engine, "--device", device]
    done = subprocess.run(
        [sys.executable, __file__, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{recipe} with a batch of {batch} failed:\n{done.stderr}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def measure(recipe: str, batch: int, engine: str, device: str) -> dict[str, Any]:
    """Estimate one training and train it; bytes."""
    limit = max(LEAST, STEPS * batch)
    session = ready(recipe, engine=engine, device=device, batch_size=batch, limit=limit, epochs=1)
    estimate = estimate_memory(session)
    with (
        tempfile.TemporaryDirectory() as path,
        folder.create_run_dir(Path(path), recipe) as run,
    ):
        finish(session, Record(run, session, every=EVERY), [], None)
    if session.device.type == "cuda":
        most = torch.cuda.max_memory_allocated(session.device)
    else:
        most = free_memory.most_resident()
    return {
        "recipe": recipe,
        "batch": batch,
        "engine": session.engine.name,
        "measured": most,
        **estimate.as_dict(),
    }


if __name__ == "__main__":
    main()
