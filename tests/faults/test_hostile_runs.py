"""Run folders from strangers: read, or refused, in little memory and time; nothing else happens."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from .injection import Fault
from .strangers import changes
from .trials import Setting, Victims, some

SETTING = Setting("stranger", "lenet-d2l", "eager", limit=40, epochs=2)
CHANGES = changes()
#: One in so many is tried in the default run.
SPARSE = 20
#: What one call may cost: memory beyond what there was, and time of the processor.
MOST_BYTES, MOST_SECONDS = 200 << 20, 2.0


@pytest.fixture(scope="module")
def good(victims: Victims, memory: Path) -> Path:
    """A run that was killed in its second epoch: it can be tested and resumed."""
    run = Path(tempfile.mkdtemp(dir=memory)) / "run"
    victims.run(*SETTING.begin(run), run=run, faults=[Fault("train 2/3")], clock=True)
    return run


@pytest.fixture
def canary(scratch: Path) -> Path:
    """A folder that nobody has a reason to touch."""
    folder = scratch / "canary"
    (folder / "000001").mkdir(parents=True)
    (folder / "000001" / "weights.safetensors").write_text("alive")
    (folder / "file.txt").write_text("alive\n")
    code = f"import os\nos.mkdir({str(folder / 'touched')!r})\n"
    (folder / "code.py").write_text(code)
    return folder


def read(victims: Victims, run: Path) -> dict[str, dict[str, Any]]:
    """What came of everything that reads the run."""
    report = run.parent / "report"
    ended = victims.run(run, report, task="reading:everything")
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert ended.status == 0, f"status {ended.status} after {lines[-1]}\n{ended.err}"
    return {line["action"]: line for line in lines if "action" in line}


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All files of a folder: when they were changed, and what they hold."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


@pytest.mark.parametrize("name", some(CHANGES, fast=list(CHANGES)[::SPARSE]))
def test_a_strangers_run(
    victims: Victims, good: Path, canary: Path, scratch: Path, name: str
) -> None:
    run = Path(shutil.copytree(good, scratch / "run"))
    CHANGES[name](run, canary, random.Random(zlib.crc32(name.encode())))
    before = state(canary)
    for action, line in read(victims, run).items():
        assert line["error"] in (None, "refused"), f"{action}: {line['told']}"
        assert line["seconds"] < MOST_SECONDS, f"{action} took {line['seconds']:.1f} s: {line}"
        assert line["bytes"] < MOST_BYTES, f"{action} took {line['bytes']:,} bytes: {line}"
    assert state(canary) == before


def test_the_good_one_works(victims: Victims, good: Path, scratch: Path) -> None:
    """Without it all of the above could be refused for another reason."""
    lines = read(victims, Path(shutil.copytree(good, scratch / "run")))
    assert {line["error"] for line in lines.values()} == {None}


def test_the_canary_notices(victims: Victims, canary: Path) -> None:
    before = state(canary)
    assert state(canary) == before
    (canary / "file.txt").write_text("alive\n")
    assert state(canary) != before


def test_there_are_enough_of_them() -> None:
    assert len(CHANGES) >= 150
