"""SIGKILL, wherever it comes: the run that is resumed ends as the one that nothing befell."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from fivebyfive.runs import checkpoints

from .conftest import Undisturbed
from .injection import Fault
from .trials import Ended, Setting, Victims, finish, outcome, some

WHATS = ("lenet-d2l", "convnet-mnist", "net.py:alexnet_small", "net.py:normalised")
SETTINGS = [
    Setting(f"{what.rpartition(':')[2]}-{engine}", what, engine)
    for what in WHATS
    for engine in ("cpu", "eager")
]

SAVED = r"checkpoints/\d+"
TEMPORARY = rf"{SAVED}\.part"
#: By name, where it is killed: once while it trains, and then perhaps again while it goes on.
POINTS: dict[str, tuple[Fault, ...]] = {
    "folder made, before the lock": (Fault(r"mkdir \.", when="after"),),
    "lock held, before run.json": (Fault(r"open run\.json\.part"),),
    "run.json half written": (Fault(r"write run\.json\.part", when="middle"),),
    "run.json before its fsync": (Fault(r"fsync run\.json\.part"),),
    "run.json before its name": (Fault(r"link run\.json"),),
    "run.json after its name": (Fault(r"link run\.json", when="after"),),
    "first step": (Fault(r"train 1/1", when="middle"),),
    "last step of an epoch": (Fault(r"train 2/5", when="after"),),
    "before a test": (Fault(r"evaluate", nth=2),),
    "in a test": (Fault(r"evaluate", nth=2, when="middle"),),
    "after a test": (Fault(r"evaluate", nth=2, when="after"),),
    "first step of an epoch": (Fault(r"train 2/1"),),
    "row half written": (Fault(r"write metrics\.jsonl", nth=4, when="middle"),),
    "weights half written": (Fault(rf"write {TEMPORARY}/weights\..*", nth=6, when="middle"),),
    "optimizer half written": (Fault(rf"write {TEMPORARY}/optimizer\..*", nth=7, when="middle"),),
    "state half written": (Fault(rf"write {TEMPORARY}/state\.json", nth=8, when="middle"),),
    "manifest half written": (Fault(rf"write {TEMPORARY}/manifest\.json", nth=9, when="middle"),),
    "weights before their fsync": (Fault(rf"fsync {TEMPORARY}/weights\..*", nth=3),),
    "manifest after its fsync": (Fault(rf"fsync {TEMPORARY}/manifest.*", nth=3, when="after"),),
    "checkpoint's folder before its fsync": (Fault(rf"fsync {TEMPORARY}", nth=5),),
    "checkpoint before its name": (Fault(rf"rename {SAVED}", nth=10),),
    "checkpoint after its name": (Fault(rf"rename {SAVED}", nth=10, when="after"),),
    "first checkpoint before its name": (Fault(rf"rename {SAVED}"),),
    "epoch's checkpoint after its name": (Fault(rf"rename {SAVED}", nth=6, when="after"),),
    "checkpoints' folder after its fsync": (Fault(r"fsync checkpoints", nth=4, when="after"),),
    "model half written": (Fault(r"write model\..*", nth=2, when="middle"),),
    "model before its name": (Fault(r"rename model\.safetensors"),),
    "last model before its name": (Fault(r"rename model\.safetensors", nth=3),),
    "last model after its name": (Fault(r"rename model\.safetensors", nth=3, when="after"),),
    "old checkpoint before it is hidden": (Fault(rf"rename {TEMPORARY}", nth=2),),
    "old checkpoint hidden": (Fault(rf"rename {TEMPORARY}", nth=2, when="after"),),
    "old checkpoint half removed": (Fault(rf"remove {TEMPORARY}", nth=3, when="middle"),),
    "curves half written": (Fault(r"write curves\.png\.part", when="middle"),),
    "last run.json before its name": (Fault(r"rename run\.json"),),
    "twice: metrics before they are cut": (Fault(r"train 2/3"), Fault(r"truncate metrics\.jsonl")),
    "twice: metrics cut": (Fault(r"train 2/3"), Fault(r"truncate .*", when="after")),
    "twice: run.json half rewritten": (
        Fault(r"train 2/3"),
        Fault(r"write run\.json\.part", when="middle"),
    ),
    "twice: run.json rewritten": (
        Fault(rf"rename {SAVED}", nth=8),
        Fault(r"rename run\.json", when="after"),
    ),
    "three times": (Fault(r"train 1/4"), Fault(r"train 2/2"), Fault(r"train 3/1", when="after")),
}
#: Those in the default run, with the setting that each is tried on; the others are for `-m faults`.
FAST = {
    "lock held, before run.json": 0,
    "run.json after its name": 0,
    "last step of an epoch": 4,
    "in a test": 7,
    "row half written": 7,
    "optimizer half written": 4,
    "checkpoint before its name": 4,
    "last model before its name": 0,
    "old checkpoint half removed": 7,
    "twice: metrics cut": 4,
    "twice: run.json half rewritten": 0,
    "three times": 4,
}


def trial(
    victims: Victims, setting: Setting, run: Path, faults: Sequence[Fault], surely: bool = True
) -> list[Ended]:
    """Begin, go on after each kill until the end, and check that little was done twice."""
    lives: list[Ended] = []
    for fault in faults:
        words = setting.go_on(run)
        lives.append(victims.run(*words, run=run, faults=[fault], clock=True))
        if lives[-1].status == 0 and not surely:
            break
        assert lives[-1].status == -signal.SIGKILL, (fault, lives[-1].status, lives[-1].err)
    if lives[-1].status:
        lives.append(finish(victims, setting, run))
    check_steps(lives, setting)
    return lives


def check_steps(lives: Sequence[Ended], setting: Setting) -> None:
    """No step is left out; at most those of one interval come twice."""
    reached, interval = 0, max(1, setting.every)
    for life in lives:
        steps = life.steps(setting.steps)
        if not steps:
            continue
        assert steps == list(range(steps[0], steps[-1] + 1))
        assert 0 <= reached + 1 - steps[0] <= interval, f"from {reached} to {steps[0]}"
        reached = steps[-1]
    assert reached == setting.steps * setting.epochs


def parameters() -> list[object]:
    fast = [
        pytest.param(SETTINGS[number], point, id=f"{SETTINGS[number].name}: {point}")
        for point, number in FAST.items()
    ]
    full = [
        pytest.param(setting, point, id=f"{setting.name}: {point}", marks=pytest.mark.faults)
        for point in POINTS
        for number, setting in enumerate(SETTINGS)
        if FAST.get(point) != number
    ]
    return [*fast, *full]


@pytest.mark.parametrize(("setting", "point"), parameters())
def test_killed_at(
    victims: Victims, undisturbed: Undisturbed, scratch: Path, setting: Setting, point: str
) -> None:
    trial(victims, setting, scratch / "run", POINTS[point])
    assert outcome(scratch / "run") == undisturbed(setting)[1]


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(60))
def test_killed_anywhere(
    victims: Victims, undisturbed: Undisturbed, scratch: Path, seed: int
) -> None:
    chance = random.Random(seed)
    setting = chance.choice(SETTINGS)
    ended, expected = undisturbed(setting)
    faults = [anywhere(ended, chance) for _ in range(chance.randint(1, 3))]
    trial(victims, setting, scratch / "run", faults, surely=False)
    assert outcome(scratch / "run") == expected


def anywhere(ended: Ended, chance: random.Random) -> Fault:
    """A kill at one of the operations of a run."""
    names = [line[2:] for line in ended.log if line.startswith("> ")]
    place = chance.randrange(len(names))
    when = chance.choice(("before", "middle", "after"))
    return Fault(re.escape(names[place]), nth=names[: place + 1].count(names[place]), when=when)


@pytest.mark.parametrize("every", some((2, 3, 4), fast=[3]))
def test_at_most_an_interval_is_done_again(
    victims: Victims, undisturbed: Undisturbed, scratch: Path, every: int
) -> None:
    setting = Setting(f"every {every}", "lenet-d2l", "eager", every=every)
    trial(victims, setting, scratch / "run", [Fault("train 2/4", when="after")])
    assert outcome(scratch / "run") == undisturbed(setting)[1]


@pytest.mark.parametrize("seed", some(range(24), fast=[1]))
def test_killed_at_any_time(
    victims: Victims, undisturbed: Undisturbed, tmp_path: Path, seed: int
) -> None:
    """With nothing watched, on a real disk: stretches and time as they are."""
    chance = random.Random(seed)
    setting, run = chance.choice(SETTINGS), tmp_path / "run"
    whole = undisturbed(setting)[0].seconds
    for _ in range(chance.randint(1, 3)):
        victim = victims.start(*setting.go_on(run))
        time.sleep(chance.uniform(0, 0.7 * whole))
        os.kill(victim.pid, signal.SIGKILL)
        if victim.wait().status == 0:
            break
    if not (run / "run.json").exists() or not (run / "curves.png").exists():
        finish(victims, setting, run, clock=False)
    else:
        assert victims.run(*setting.go_on(run)).status == 0
    last = checkpoints.numbers(run)[-1]
    assert checkpoints.read(run, last, 1 << 30).number == last
    assert outcome(run) == undisturbed(setting)[1]
