"""Damaged checkpoints: every one is noticed, the one before serves, and the end is the same."""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fivebyfive.runs import checkpoints

from .conftest import Undisturbed
from .injection import Fault
from .trials import Setting, Victims, finish, outcome, some

SETTING = Setting("damaged", "net.py:alexnet_small", "eager", limit=40)
LARGEST = 1 << 30
NAMES = (checkpoints.WEIGHTS, checkpoints.OPTIMIZER, checkpoints.STATE, checkpoints.MANIFEST)


@pytest.fixture(scope="module")
def killed(victims: Victims, memory: Path) -> Path:
    """A run that was killed in its last epoch, with three checkpoints."""
    run = Path(tempfile.mkdtemp(dir=memory)) / "run"
    victims.run(*SETTING.begin(run), run=run, faults=[Fault("train 3/3")], clock=True)
    assert len(checkpoints.numbers(run)) >= 2
    return run


@pytest.fixture
def run(killed: Path, scratch: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(killed, scratch / "run"))


@pytest.fixture
def newest(run: Path) -> Path:
    """The folder of its newest checkpoint."""
    return checkpoints.place(run, checkpoints.numbers(run)[-1])


def passed_over(run: Path) -> str:
    """That the newest is noticed to be damaged and the one before is taken; what is said of it."""
    last, before = checkpoints.numbers(run)[:-3:-1]
    found, damaged = checkpoints.newest(run, LARGEST)
    assert found is not None
    assert found.number == before
    assert len(damaged) == 1
    assert str(checkpoints.place(run, last)) in damaged[0]
    return damaged[0]


@pytest.mark.parametrize("seed", some(range(200), fast=range(12)))
@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_file_cut_short_or_with_a_bit_flipped(killed: Path, how: str, seed: int) -> None:
    chance = random.Random(f"{how} {seed}")
    newest = checkpoints.place(killed, checkpoints.numbers(killed)[-1])
    path = newest / chance.choice(NAMES)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    place = chance.randrange(len(whole))
    if how == "cut":
        del damaged[place:]
    else:
        damaged[place] ^= 1 << chance.randrange(8)
    try:
        path.write_bytes(damaged)
        passed_over(killed)
    finally:
        path.write_bytes(whole)
    assert checkpoints.newest(killed, LARGEST)[1] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_file_missing(run: Path, newest: Path, name: str) -> None:
    (newest / name).unlink()
    assert "is missing" in passed_over(run)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_file(run: Path, newest: Path, name: str) -> None:
    (newest / name).write_bytes(b"")
    passed_over(run)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_checkpoint(run: Path, newest: Path, name: str) -> None:
    shutil.copy(checkpoints.place(run, checkpoints.numbers(run)[-2]) / name, newest / name)
    if name == checkpoints.MANIFEST or (newest / name).read_bytes() != b"":
        passed_over(run)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(NAMES, 2)))
def test_two_files_in_each_others_place(run: Path, newest: Path, first: str, second: str) -> None:
    (newest / first).rename(newest / "between")
    (newest / second).rename(newest / first)
    (newest / "between").rename(newest / second)
    passed_over(run)


def test_an_empty_folder(run: Path, newest: Path) -> None:
    shutil.rmtree(newest)
    newest.mkdir()
    passed_over(run)


def test_a_folder_under_another_name(run: Path, newest: Path) -> None:
    newest.rename(checkpoints.place(run, checkpoints.numbers(run)[-1] + 1))
    passed_over(run)


def test_two_checkpoints_in_each_others_place(run: Path, newest: Path) -> None:
    before = checkpoints.place(run, checkpoints.numbers(run)[-2])
    newest.rename(run / "between")
    before.rename(newest)
    (run / "between").rename(before)
    _, damaged = checkpoints.newest(run, LARGEST)
    assert len(damaged) >= 2


def test_another_runs_checkpoint_is_not_gone_on_with(
    victims: Victims, run: Path, newest: Path, scratch: Path
) -> None:
    """Whole in itself, but of another recipe."""
    other = scratch / "other"
    setting = Setting("other", SETTING.what, "eager", limit=40, more=("--seed", "1"))
    victims.run(*setting.begin(other), run=other, faults=[Fault("train 3/3")], clock=True)
    shutil.rmtree(newest)
    shutil.copytree(checkpoints.place(other, checkpoints.numbers(other)[-1]), newest)
    ended = victims.run(*SETTING.go_on(run), run=run, clock=True)
    assert ended.status == 2
    assert "seed is 1 there, 0 here" in ended.err


EDITS: dict[str, Callable[[str], str]] = {
    "another number": lambda text: text.replace('"number": ', '"number": 1'),
    "another format": lambda text: text.replace('"format": 1', '"format": 2'),
    "another size": lambda text: text.replace('"bytes": ', '"bytes": 1'),
    "another digest": lambda text: text.replace('"sha256": "', '"sha256": "0'),
    "no files": lambda text: text.replace('"files"', '"fils"'),
    "a list": lambda text: f"[{text}]",
    "no JSON": lambda text: text[:-5],
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_manifest(run: Path, newest: Path, edit: str) -> None:
    path = newest / checkpoints.MANIFEST
    path.write_text(EDITS[edit](path.read_text()))
    passed_over(run)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "weights flipped": lambda newest: flip(newest / checkpoints.WEIGHTS),
    "optimizer cut": lambda newest: (newest / checkpoints.OPTIMIZER).write_bytes(b"1"),
    "state missing": lambda newest: (newest / checkpoints.STATE).unlink(),
    "manifest empty": lambda newest: (newest / checkpoints.MANIFEST).write_bytes(b""),
    "folder gone": shutil.rmtree,
    "all of them": lambda newest: shutil.rmtree(newest.parent),
}


@pytest.mark.parametrize("damage", some(DAMAGES, fast=["weights flipped", "all of them"]))
def test_gone_on_with_to_the_same_end(
    victims: Victims, undisturbed: Undisturbed, run: Path, newest: Path, damage: str
) -> None:
    DAMAGES[damage](newest)
    gone = not newest.exists()
    ended = finish(victims, SETTING, run)
    assert ended.err.count("damaged checkpoint was passed over") == (0 if gone else 1), ended.err
    assert outcome(run) == undisturbed(SETTING)[1]
    assert checkpoints.newest(run, LARGEST)[1] == []


def test_what_was_passed_over_makes_no_room_for_itself(
    victims: Victims, undisturbed: Undisturbed, run: Path, newest: Path
) -> None:
    """Killed again soon after: two whole ones must be there as ever."""
    flip(newest / checkpoints.WEIGHTS)
    fault = Fault(r"rename checkpoints/\d+", nth=2)
    victims.run(*SETTING.go_on(run), run=run, faults=[fault], clock=True)
    whole = 0
    for number in checkpoints.numbers(run):
        try:
            checkpoints.read(run, number, LARGEST)
            whole += 1
        except checkpoints.CheckpointError:
            pass
    assert whole >= 2
    finish(victims, SETTING, run)
    assert outcome(run) == undisturbed(SETTING)[1]
