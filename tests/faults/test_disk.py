"""A disk that is full, broken or read-only: nothing saved is lost, and the message says enough."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fivebyfive.runs import checkpoints

from .conftest import Undisturbed
from .injection import Fault
from .trials import Ended, Outcome, Setting, Victims, finish, outcome, some

#: Few steps: every write of it is made to fail once.
SETTING = Setting("disk", "lenet-d2l", "eager", limit=40, epochs=2, every=2)
#: What may fail and the run still comes to a good end: an old checkpoint lies about, whoever comes
#: meanwhile isn't told who holds the lock, or run.json gets its name in the second-best way.
HARMLESS = re.compile(r"(rename|remove) checkpoints/\d+\.part|\w+ lock\.json.*|link run\.json")
WATCHED = ("write", "fsync", "rename", "link", "open", "mkdir", "truncate", "remove")
#: Those tried in the default run; the full one tries each there is.
CHOSEN = (
    "write run.json.part",
    "write metrics.jsonl",
    "write checkpoints/000002.part/weights.safetensors",
    "rename checkpoints/000003",
    "write model.safetensors.part",
    "write curves.png.part",
)


def fails(victims: Victims, expected: Outcome, run: Path, fault: Fault) -> None:
    """Fail, say why and where, keep what was kept, and come to the same end."""
    ended = victims.run(*SETTING.begin(run), run=run, faults=[fault], clock=True)
    assert ended.struck is not None, f"{fault} didn't happen"
    name = fault.at.replace("\\", "")
    assert "Traceback" not in ended.err, ended.err
    after_lock = name == "fsync ." and fault.nth == 1
    if ended.status or not (after_lock or HARMLESS.fullmatch(name)):
        assert ended.status in (1, 2), ended.status
        check_message(ended, run, name, fault.do)
    if saved_before(ended):
        found, damaged = checkpoints.newest(run, 1 << 30)
        assert found is not None
        assert not damaged
    if ended.status:
        finish(victims, SETTING, run)
    assert outcome(run) == expected


def check_message(ended: Ended, run: Path, name: str, error: str) -> None:
    """The message has the path, and for a full disk what is needed."""
    message = ended.err.splitlines()[-1]
    reason = os.strerror(getattr(errno, error))
    assert message.startswith("fivebyfive: can't write "), ended.err
    assert str(run) in message
    assert reason in message, message
    if error == "ENOSPC" and not name.startswith(("mkdir .", "open")):
        assert re.search(r"[\d,]+ bytes are needed and [\d,]+ are free", message), message


def saved_before(ended: Ended) -> bool:
    """Whether a checkpoint was whole when the fault struck."""
    struck = next(i for i, line in enumerate(ended.log) if line.startswith("! "))
    return any(re.fullmatch(r"< rename checkpoints/\d+", line) for line in ended.log[:struck])


@pytest.fixture
def expected(undisturbed: Undisturbed) -> Outcome:
    """What the run leaves that nothing befell."""
    return undisturbed(SETTING)[1]


@pytest.mark.parametrize("name", CHOSEN)
def test_a_disk_that_is_full(victims: Victims, expected: Outcome, scratch: Path, name: str) -> None:
    when = "middle" if name.startswith("write") else "before"
    fails(victims, expected, scratch / "run", Fault(re.escape(name), do="ENOSPC", when=when))


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", WATCHED)
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_every_one_of_a_runs_operations_fails_once(
    victims: Victims,
    undisturbed: Undisturbed,
    expected: Outcome,
    scratch: Path,
    kind: str,
    error: str,
) -> None:
    names = [line[2:] for line in undisturbed(SETTING)[0].log if line.startswith(f"> {kind} ")]
    assert names or kind == "truncate"
    for index, name in enumerate(names):
        when = "middle" if kind == "write" and error == "ENOSPC" else "before"
        nth = names[: index + 1].count(name)
        fault = Fault(re.escape(name), do=error, nth=nth, when=when)
        try:
            fails(victims, expected, scratch / str(index), fault)
        except AssertionError as failure:
            raise AssertionError(f"{fault}: {failure}") from failure
        shutil.rmtree(scratch / str(index))


RESUMING = ("open lock", "truncate metrics.jsonl", "write run.json.part", "open metrics.jsonl")


@pytest.mark.parametrize("name", some(RESUMING, fast=["write run.json.part"]))
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_going_on_fails(
    victims: Victims, expected: Outcome, scratch: Path, name: str, error: str
) -> None:
    run = scratch / "run"
    victims.run(*SETTING.begin(run), run=run, faults=[Fault("train 2/2")], clock=True)
    fault = Fault(re.escape(name), do=error)
    ended = victims.run(*SETTING.go_on(run), run=run, faults=[fault], clock=True)
    assert ended.status in (1, 2)
    assert str(run) in ended.err
    assert "Traceback" not in ended.err
    assert checkpoints.newest(run, 1 << 30)[1] == []
    finish(victims, SETTING, run)
    assert outcome(run) == expected


Mount = Callable[..., Path]


@pytest.fixture
def mount(scratch: Path) -> Iterator[Mount]:
    """Mounts a disk in memory, or changes it; skips where this user may not."""
    place = scratch / "disk"

    def mount(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        return place

    place.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount here")
    yield mount
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


#: Four megabytes of weights, so that a small disk is full after the first checkpoint.
LARGE = Setting("large", "convnet-mnist", "eager", limit=40, more=("--optimizer", "sgd"))


def test_a_real_disk_of_8_mib(victims: Victims, undisturbed: Undisturbed, mount: Mount) -> None:
    run = mount("size=8m") / "run"
    ended = victims.run(*LARGE.begin(run), run=run, clock=True)
    assert ended.status == 2
    message = ended.err.splitlines()[-1]
    assert re.search(r"No space left on device; [\d,]+ bytes are needed and [\d,]+ are", message)
    assert str(run) in message
    found, damaged = checkpoints.newest(run, 1 << 30)
    assert found is not None
    assert not damaged
    mount("remount,size=64m")
    finish(victims, LARGE, run)
    assert outcome(run) == undisturbed(LARGE)[1]


def test_a_disk_too_full_to_begin(victims: Victims, mount: Mount) -> None:
    disk = mount("size=64k")
    with contextlib.suppress(OSError), (disk / "filling").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    ended = victims.run(*SETTING.begin(disk / "run"), run=disk / "run", clock=True)
    assert ended.status == 2
    assert "No space left on device" in ended.err
    assert str(disk / "run") in ended.err


def test_a_folder_that_is_read_only(
    victims: Victims, undisturbed: Undisturbed, mount: Mount
) -> None:
    disk = mount("size=64m")
    run = disk / "run"
    victims.run(*SETTING.begin(run), run=run, faults=[Fault("train 2/2")], clock=True)
    mount("remount,ro")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    for words in (SETTING.go_on(run), SETTING.begin(disk / "new")):
        ended = victims.run(*words, run=run, clock=True)
        assert ended.status == 2
        assert "Read-only file system" in ended.err
        assert str(disk) in ended.err
    tested = victims.run("test", run)
    assert tested.status == 0, tested.err
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    mount("remount,rw")
    finish(victims, SETTING, run)
    assert outcome(run) == undisturbed(SETTING)[1]


def test_a_folder_of_somebody_elses(victims: Victims, scratch: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (scratch / "theirs").mkdir(mode=0o555)
    ended = victims.run(*SETTING.begin(scratch / "theirs" / "run"))
    assert ended.status == 2
    assert "Permission denied" in ended.err


def test_nothing_is_written_where_the_metrics_cant_be(
    victims: Victims, undisturbed: Undisturbed, scratch: Path
) -> None:
    """A device that is always full in the log's place."""
    run = scratch / "run"
    victims.run(*SETTING.begin(run), run=run, faults=[Fault("train 2/2")], clock=True)
    rows = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to("/dev/full")
    ended = victims.run(*SETTING.go_on(run), run=run, clock=True)
    assert ended.status == 2
    assert str(run / "metrics.jsonl") in ended.err
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").write_bytes(rows)
    finish(victims, SETTING, run)
    assert outcome(run) == undisturbed(SETTING)[1]
