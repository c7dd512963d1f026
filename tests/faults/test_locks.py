"""One trainer a run folder: the second is refused at once, and a dead one's lock is taken over."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from .conftest import Undisturbed
from .injection import Fault
from .trials import Ended, Setting, Victim, Victims, finish, outcome, some

SETTING = Setting("locked", "lenet-d2l", "eager", epochs=2)
#: Chance decides each.
RACES = some(range(4), fast=[0])
FOREVER = Fault("train 2/3", do="hang")


@pytest.fixture
def run(scratch: Path) -> Path:
    return scratch / "run"


def training(victims: Victims, run: Path) -> Victim:
    """A process that holds the run, in the middle of a step that never ends."""
    words = SETTING.go_on(run)
    victim = victims.start(*words, run=run, faults=[FOREVER], clock=True)
    victim.until("! train .*")
    return victim


def refused(ended: Ended, run: Path, by: int) -> None:
    assert ended.status == 2, ended.err
    assert ended.seconds < 1
    assert f"{run} is being trained by process {by} on" in ended.err
    assert "train" not in {line.split()[1] for line in ended.log}


def test_a_second_one_is_refused_and_the_first_isnt_disturbed(
    victims: Victims, undisturbed: Undisturbed, run: Path
) -> None:
    first = training(victims, run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != "lock"}
    refused(victims.run(*SETTING.go_on(run), run=run), run, first.pid)
    again = victims.run(*SETTING.begin(run), run=run)
    assert again.status == 2
    assert again.seconds < 1
    for path, time in before.items():
        assert path.stat().st_mtime_ns == time
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait().status == -signal.SIGKILL
    finish(victims, SETTING, run)
    assert outcome(run) == undisturbed(SETTING)[1]


def test_one_that_goes_on_is_named_too(victims: Victims, run: Path) -> None:
    """Not the process of the life before, which is long dead."""
    victims.run(*SETTING.begin(run), run=run, faults=[Fault("train 1/3")], clock=True)
    second = victims.start(
        *SETTING.go_on(run), run=run, faults=[Fault("write run.json.part", do="hang")], clock=True
    )
    second.until("! write .*")  # it has the lock, and run.json names the one before
    refused(victims.run(*SETTING.go_on(run), run=run), run, second.pid)
    os.kill(second.pid, signal.SIGKILL)
    second.wait()
    finish(victims, SETTING, run)


def test_a_killed_ones_lock_is_taken_over_at_once(
    victims: Victims, undisturbed: Undisturbed, run: Path
) -> None:
    for _ in range(3):
        victim = training(victims, run)
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
    finish(victims, SETTING, run)
    assert outcome(run) == undisturbed(SETTING)[1]


def test_a_stopped_one_keeps_its_lock(victims: Victims, run: Path) -> None:
    first = training(victims, run)
    os.kill(first.pid, signal.SIGSTOP)
    refused(victims.run(*SETTING.go_on(run), run=run), run, first.pid)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()


@pytest.mark.parametrize("_race", RACES)
def test_of_many_that_go_on_at_once_one_trains(
    victims: Victims, undisturbed: Undisturbed, run: Path, _race: int
) -> None:
    victims.run(*SETTING.begin(run), run=run, faults=[Fault("train 1/4")], clock=True)
    racing = [victims.start(*SETTING.go_on(run), run=run, clock=True) for _ in range(4)]
    trained = exactly_one(racing)
    # One that came when all was over has nothing to do, which is well, too.
    assert {line.split()[2] for line in trained.log if line.startswith("< train")}
    assert outcome(run) == undisturbed(SETTING)[1]


@pytest.mark.parametrize("_race", RACES)
def test_of_many_that_want_one_new_folder_one_gets_it(
    victims: Victims, undisturbed: Undisturbed, run: Path, _race: int
) -> None:
    racing = [victims.start(*SETTING.begin(run), run=run, clock=True) for _ in range(4)]
    exactly_one(racing)
    assert outcome(run) == undisturbed(SETTING)[1]


def exactly_one(racing: list[Victim]) -> Ended:
    """All end; one has trained, and the others say why they haven't."""
    lives = [victim.wait() for victim in racing]
    trained = [life for life in lives if life.steps(SETTING.steps)]
    assert len(trained) == 1, [life.err for life in lives]
    assert trained[0].status == 0, trained[0].err
    for life in lives:
        assert life.status in (0, 2)
        assert life.status == 0 or re.search("is being trained by|holds a run already", life.err)
        assert "Traceback" not in life.err
    return trained[0]
