"""Every hostile file is refused with a clear error, in little time and memory, and does nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.datasets import made as making

from . import hostile_data as hostile

SECONDS, MEBIBYTES = 2.0, 200


@pytest.mark.parametrize(
    "seed", [pytest.param(s, marks=pytest.mark.faults if s else ()) for s in range(10)]
)
def test_hostile_files_are_refused(seed: int, tmp_path: Path) -> None:
    made = making.make()
    what, folders = [], []
    for number, (name, path, file) in enumerate(hostile.cases(made, seed)):
        what.append(f"seed {seed}, {name} ({path})")
        folders.append(str(hostile.put(made, tmp_path / str(number), path, file)))
    assert len(folders) >= 150

    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("reader.py")],
        input="\n".join(folders),
        env={**os.environ, "FIVEBYFIVE_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == len(folders), f"{what[len(said)]}: {done.stderr}"
    for case, folder, result in zip(what, folders, said, strict=True):
        assert result["error"], f"{case} was taken"
        assert folder in result["error"], case
        assert result["seconds"] < SECONDS, f"{case} took {result['seconds']:.1f} s"
        assert result["peak"] < MEBIBYTES, f"{case} took {result['peak']:.0f} MiB"
        assert (Path(folder) / "canary").read_text() == "alive", case
    assert not (tmp_path / "cache").exists()


def test_the_good_files_among_them_would_be_taken(tmp_path: Path) -> None:
    """Otherwise the test above would prove nothing."""
    made = making.make()
    name = hostile.IMAGES
    for number, (path, file) in enumerate(
        ((name, made.contents[name]), (f"{name}.gz", made.archives[name]))
    ):
        folder = hostile.put(made, tmp_path / str(number), path, file)
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("reader.py")],
            input=str(folder),
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout)["error"] is None
