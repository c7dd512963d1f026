"""Started by torchrun: makes the calls that a JSON file lists, and leaves what each process got.

The list has entries ``[name of a function, its arguments]``; process R writes ``results-R.json``
beside the file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import fivebyfive as fbf


def main(path: Path) -> None:
    results = []
    for name, arguments in json.loads(path.read_text()):
        run = getattr(fbf, name)(**arguments)
        weights = {k: v.double().sum().item() for k, v in run.trained.state_dict().items()}
        results.append({"path": str(run.path), "result": run.result, "weights": weights})
    mine = path.with_name(f"results-{os.environ['RANK']}.json")
    mine.write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
