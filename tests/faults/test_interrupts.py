"""Ctrl-C and SIGTERM, at every step: the training saves and leaves, and goes on to the same end."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fivebyfive.runs import checkpoints

from .conftest import Undisturbed
from .injection import Fault
from .test_kills import TEMPORARY, check_steps
from .trials import Ended, Setting, Victims, finish, outcome, some

#: 14 steps in each of 3 epochs. It saves by the clock, 30 s, and so only where it has to.
SETTING = Setting("interrupted", "lenet-d2l", "cpu", limit=200, batch_size=15, every=30)
STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


def interrupt(victims: Victims, setting: Setting, run: Path, *faults: Fault) -> Ended:
    """Begin, be interrupted, and leave as one should."""
    ended = victims.run(*setting.begin(run), run=run, faults=faults, clock=True)
    assert ended.status == STATUS[faults[0].do], ended.err
    assert ended.struck is not None
    assert ended.struck < 5
    assert "Traceback" not in ended.err
    return ended


def resume_line(ended: Ended) -> list[str]:
    """The words of the line that goes on, as it was printed."""
    found = re.search(r"fivebyfive (train .*--resume .*)", ended.err)
    assert found, ended.err
    return shlex.split(found[1])


STEPS = SETTING.steps * SETTING.epochs


@pytest.mark.parametrize("step", some(range(STEPS), fast=[0, 20, 41]))
def test_interrupted_at_every_step(
    victims: Victims, undisturbed: Undisturbed, scratch: Path, step: int
) -> None:
    run, asked = scratch / "run", ("SIGINT", "SIGTERM")[step % 2]
    when = ("before", "middle", "after")[step % 3]
    name = f"train {step // SETTING.steps + 1}/{step % SETTING.steps + 1}"
    ended = interrupt(victims, SETTING, run, Fault(name, do=asked, when=when))
    # The very line that was printed, and nothing more.
    rest = victims.run(*resume_line(ended), run=run, clock=True)
    assert rest.status == 0, rest.err
    check_steps([ended, rest], SETTING)
    # Nothing at all is done twice: it had the time to save.
    assert len(ended.steps(SETTING.steps)) + len(rest.steps(SETTING.steps)) == STEPS
    assert outcome(run) == undisturbed(SETTING)[1]


OFTEN = Setting("often", "lenet-d2l", "eager")
PLACES = {
    "in the first step": Fault(r"train 1/1", do="SIGTERM", when="middle"),
    "in a test": Fault(r"evaluate", do="SIGINT", nth=2, when="middle"),
    "in the last test": Fault(r"evaluate", do="SIGTERM", nth=3, when="middle"),
    "before a test": Fault(r"evaluate", do="SIGTERM"),
    "after a test": Fault(r"evaluate", do="SIGINT", when="after"),
    "in the writing of a checkpoint": Fault(rf"write {TEMPORARY}/weights.*", do="SIGINT", nth=4),
    "at a checkpoint's name": Fault(r"rename checkpoints/\d+", do="SIGTERM", nth=5),
    "while an old checkpoint is removed": Fault(rf"remove {TEMPORARY}", do="SIGINT", nth=2),
    "by a closed terminal": Fault(r"train 2/2", do="SIGHUP"),
}


FAST = ("in the first step", "in a test", "in the writing of a checkpoint")


@pytest.mark.parametrize("place", some(PLACES, fast=FAST))
def test_interrupted(victims: Victims, undisturbed: Undisturbed, scratch: Path, place: str) -> None:
    run = scratch / "run"
    ended = interrupt(victims, OFTEN, run, PLACES[place])
    assert resume_line(ended)
    rest = finish(victims, OFTEN, run)
    check_steps([ended, rest], OFTEN)
    assert outcome(run) == undisturbed(OFTEN)[1]


@pytest.mark.parametrize("at", some(("weights", "manifest"), fast=["weights"]))
def test_a_second_one_leaves_at_once_and_damages_nothing(
    victims: Victims, undisturbed: Undisturbed, scratch: Path, at: str
) -> None:
    """The first is heard in a step; the second comes while the checkpoint for it is written."""
    run, setting = scratch / "run", Setting("seldom", "lenet-d2l", "eager", every=30)
    first = Fault("train 2/2", do="SIGINT")
    second = Fault(rf"write {TEMPORARY}/{at}.*", do="SIGINT", nth=2)
    hanging = Fault(rf"fsync {TEMPORARY}/{at}.*", do="hang", nth=2)
    ended = interrupt(victims, setting, run, first, second, hanging)
    assert checkpoints.newest(run, 1 << 30)[1] == []
    assert ended.steps(setting.steps)[-1] == 7
    finish(victims, setting, run)
    assert outcome(run) == undisturbed(setting)[1]


def test_one_line_is_enough_for_a_network_of_ones_own(victims: Victims, scratch: Path) -> None:
    run = scratch / "a run"
    setting = Setting("own", "net.py:alexnet_small", "eager", epochs=2)
    ended = interrupt(victims, setting, run, Fault("train 1/2", do="SIGINT"))
    assert victims.run(*resume_line(ended)).status == 0
