"""Several processes: that they compute what one computes, and what happens when one can't."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

import fivebyfive as fbf
from fivebyfive.training.stopping import Interrupted

from .conftest import NETWORKS

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="PyTorch has no gloo here"
)

#: Trainings of 60 steps, each of which is a mark: batches of 17 don't divide by two, and the last
#: one of 86 images is a single image.
UNEVEN = {"data": "sample", "limit": 86, "batch_size": 17, "epochs": 10, "device": "cpu"}
TRAININGS: dict[str, dict[str, Any]] = {
    "lenet": {"what": "lenet"},
    "dropout": {"what": "nets.py:alexnet_small", "optimizer": "sgd", "lr": 0.01},
    "parts": {"what": "nets.py:alexnet_small", "optimizer": "sgd", "lr": 0.01, "micro_batch": 4},
    "hungry": {"what": "nets.py:hungry", "optimizer": "sgd", "lr": 0.01},
    "forward": {"what": "nets.py:late_forward", "lr": 0.0005},
    "backward": {"what": "nets.py:late_backward", "lr": 0.0005},
    "other": {"what": "nets.py:late_other", "lr": 0.0005},
}
#: A network that the second of several processes has no room for with more than four images.
#: Others have no room from their ninth step on: in the forward, or in the midst of the backward,
#: when the gradients of what is behind it, more than the first bucket of 1 MiB, are being added up.
HUNGRY = """

import os

import torch


class Hungry(nn.Sequential):
    def forward(self, images):
        rank = os.environ.get("RANK")
        if self.training and rank == "1" and len(images) > 4 and images.device.type != "meta":
            raise MemoryError
        return super().forward(images)


def hungry():
    return Hungry(*alexnet_small())


class Short(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images, ask):
        ctx.ask = ask
        return images.view_as(images)

    @staticmethod
    def backward(ctx, gradients):
        ctx.ask(gradients)
        return gradients, None


class Late(nn.Sequential):
    def begin(self, place, rank):
        self.place, self.rank, self.steps, self.weight = place, rank, 0, None
        return self

    def ask(self, images):
        mine = os.environ.get("RANK", self.rank) == self.rank
        if mine and self.steps > 8 and len(images) > 4:
            raise MemoryError

    def forward(self, images):
        weight = self[0].weight.detach().sum()
        if self.training and images.device.type != "meta" and weight != self.weight:
            self.steps, self.weight = self.steps + 1, weight
        if self.training and self.place == "forward":
            self.ask(images)
        for number, layer in enumerate(self):
            if number == 7 and self.training and self.place == "backward":
                images = Short.apply(images, self.ask)
            images = layer(images)
        return images


def late(place, rank):
    wide = [nn.Linear(12 * 6 * 6, 600), nn.Tanh(), nn.Linear(600, 600), nn.Tanh()]
    return Late(*features(), *wide, nn.Linear(600, 10)).begin(place, rank)


def late_forward():
    return late("forward", "1")


def late_backward():
    return late("backward", "1")


def late_other():
    return late("backward", "0")
"""
#: From wherever a test begins to be slow: a start of PyTorch in three processes on a busy machine.
PATIENCE = 200


def torchrun(processes: int, *command: str, cwd: Path) -> subprocess.Popen[str]:
    """Start ``command`` in several processes of one thread each."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(processes), *command),
        ],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it printed on stdout and stderr, when it has ended."""
    try:
        return process.communicate(timeout=PATIENCE)
    finally:
        process.terminate()  # torchrun ends its processes then; killed, it would leave them
        process.communicate()


def train(cwd: Path, *options: str, processes: int = 2) -> subprocess.Popen[str]:
    """``fivebyfive train``; the lone -- keeps torchrun from taking --run for one of its own."""
    command = ("-m", "--", "fivebyfive", "train", "--device", "cpu", *options)
    return torchrun(processes, *command, cwd=cwd)


def statuses(errors: str) -> list[int]:
    """The processes' own exit statuses, as torchrun reports them."""
    return [int(status) for status in re.findall(r"exitcode +: (-?\d+)", errors)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As each of several processes has: more would wait for one another on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "nets.py").write_text(NETWORKS + HUNGRY)
    return folder


@pytest.fixture(scope="module")
def alone(place: Path) -> None:
    """Each training by one process; and ``cut``, LeNet's up to the middle of its second epoch."""
    before = Path.cwd()
    os.chdir(place)
    try:
        common = {**UNEVEN, "engine": "eager", "watch": "quiet"}
        for name, training in TRAININGS.items():
            fbf.train(**common, **training, run=f"one-{name}")
        cut = Cut(8)
        with pytest.raises(Interrupted):
            fbf.train("lenet", **common, run="cut", listeners=[cut])
    finally:
        os.chdir(before)


class Cut:
    """Asks the training to stop at its ``nth`` mark."""

    def __init__(self, nth: int) -> None:
        self._left = nth

    def on(self, event: object) -> None:
        self._left -= getattr(event, "mark", False)
        if self._left == 0:
            signal.raise_signal(signal.SIGTERM)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def together(place: Path, alone: None) -> dict[str, Any]:
    """The same trainings by two processes, and the one that was cut gone on with by two."""
    common = {**UNEVEN, "watch": "lines"}
    calls: list[Any] = [
        ["train", {**common, **training, "run": f"two-{name}"}]
        for name, training in TRAININGS.items()
    ]
    calls.append(["resume", {"run": "cut", "watch": "quiet"}])
    (place / "calls.json").write_text(json.dumps(calls))
    script = Path(__file__).with_name("several.py")
    process = torchrun(2, str(script), str(place / "calls.json"), cwd=place)
    output, errors = finished(process)
    assert process.returncode == 0, errors
    results = [json.loads((place / f"results-{rank}.json").read_text()) for rank in (0, 1)]
    return {"output": output, "errors": errors, "results": results}


def rows(run: Path) -> list[dict[str, Any]]:
    return [row for row in fbf.load_run(run).metrics() if row["event"] != "notice"]


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_compute_what_one_computes(
    place: Path, alone: None, together: dict[str, Any], name: str
) -> None:
    one, two = rows(place / f"one-{name}"), rows(place / f"two-{name}")
    assert [row["event"] for row in one].count("mark") == 60
    assert len(two) == len(one)
    for mine, theirs in zip(one, two, strict=True):
        for key in mine.keys() & {"event", "epoch", "step", "images", "train_acc", "test_acc"}:
            assert mine[key] == theirs[key]
        for key in mine.keys() & {"train_loss", "test_loss"}:
            assert theirs[key] == pytest.approx(mine[key], rel=1e-6)
    weights = load_file(place / f"two-{name}" / "model.safetensors")
    for key, value in load_file(place / f"one-{name}" / "model.safetensors").items():
        assert (weights[key] - value).abs().max() < 2e-6


def test_where_memory_runs_out_in_one_all_split_the_batch(
    place: Path, together: dict[str, Any]
) -> None:
    run = place / "two-hungry"
    weights = load_file(run / "model.safetensors")
    for key, value in load_file(place / "two-parts" / "model.safetensors").items():
        assert torch.equal(weights[key], value)
    told = [row["message"] for row in fbf.load_run(run).metrics() if row["event"] == "notice"]
    split = [message for message in told if message.startswith("out of memory at 17 images")]
    assert len(split) == 1
    assert "from here on 5 × 4 or 3" in split[0]


def test_where_it_runs_out_later_all_do_the_step_again_in_parts(
    place: Path, together: dict[str, Any]
) -> None:
    weights = load_file(place / "two-forward" / "model.safetensors")
    for name in ("forward", "backward", "other"):
        run = place / f"two-{name}"
        for key, value in load_file(run / "model.safetensors").items():
            assert torch.equal(weights[key], value)
        notices = [row for row in fbf.load_run(run).metrics() if row["event"] == "notice"]
        (split,) = [each for each in notices if each["kind"] == "out-of-memory"]
        assert "from here on 5 × 4 or 3" in split["message"]
        assert split["epoch"] == 2


def test_both_know_the_result_and_the_first_alone_tells(
    place: Path, together: dict[str, Any]
) -> None:
    first, second = together["results"]
    assert first == second
    assert [run["path"] for run in first[:-1]] == [f"two-{name}" for name in TRAININGS]
    assert together["output"] == ""
    told = together["errors"]
    assert told.count("recipe: ") == told.count("2 processes share each batch") == len(TRAININGS)
    assert told.count("epoch  1/10") == len(TRAININGS)


def test_two_go_on_where_one_was_cut(place: Path, alone: None, together: dict[str, Any]) -> None:
    run = fbf.load_run(place / "cut")
    assert run.info["state"] == "finished"
    (again,) = run.info["resumed"]
    assert again["from"] == "epoch 2, after step 2"
    assert "the number of processes changed from 1 to 2" in again["notes"][0]
    one, two = rows(place / "one-lenet"), rows(run.path)
    assert [row["event"] for row in two] == [row["event"] for row in one]
    for mine, theirs in zip(one, two, strict=True):
        assert theirs["train_loss"] == pytest.approx(mine["train_loss"], rel=1e-6)


LONG = ("--data", "sample", "--limit", "170", "--batch-size", "17", "--epochs", "100000")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    """Start a long training by two processes; gives torchrun, and the second one's number."""
    (tmp_path / "watched.py").write_text(
        "import os, pathlib\n"
        "from fivebyfive.networks.lenet import lenet as net\n"
        "if 'RANK' in os.environ:\n"
        "    pathlib.Path(f\"{os.environ['RANK']}.pid\").write_text(str(os.getpid()))\n"
    )
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> tuple[subprocess.Popen[str], int]:
        process = train(
            tmp_path, "watched.py:net", *LONG, "--run", "r", "--checkpoint-every", "0", *options
        )
        started.append(process)
        log = tmp_path / "r" / "metrics.jsonl"
        wait_for(lambda: log.exists() and '"event": "epoch"' in log.read_text())
        return process, int((tmp_path / "1.pid").read_text())

    yield start
    for process in started:
        process.terminate()
        process.communicate()


def wait_for(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_when_one_is_killed_all_end_and_one_can_go_on(
    tmp_path: Path, running: Callable[..., tuple[subprocess.Popen[str], int]]
) -> None:
    process, second = running()
    os.kill(second, signal.SIGKILL)
    killed = time.monotonic()
    _, errors = finished(process)
    assert time.monotonic() - killed < 30
    assert process.returncode != 0
    assert "fivebyfive: process 1 has ended or doesn't answer" in errors
    assert "Go on with: fivebyfive train watched.py:net --resume r" in errors
    assert errors.count("Traceback (most recent call last)") == 1  # torchrun's own
    assert -9 in statuses(errors)
    assert 0 not in statuses(errors)
    run = fbf.load_run(tmp_path / "r")
    assert run.info["state"] == "failed"
    epochs = rows(run.path)[-1]["epoch"] + 1
    done = fbf.resume(
        run.path,
        network=f"{tmp_path / 'watched.py'}:net",
        data="sample",
        epochs=epochs,
        allow=["recipe"],
        watch="quiet",
    )
    assert done.info["state"] == "finished"
    assert [row["epoch"] for row in rows(run.path) if row["event"] == "epoch"] == [
        *range(1, epochs + 1)
    ]


@pytest.mark.faults
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_when_asked_to_stop_all_do_and_nothing_is_lost(
    tmp_path: Path, running: Callable[..., tuple[subprocess.Popen[str], int]], name: str
) -> None:
    process, _ = running()
    process.send_signal(signal.Signals[name])
    _, errors = finished(process)
    assert process.returncode != 0
    assert errors.count("fivebyfive: stopped at ") == 1
    assert fbf.load_run(tmp_path / "r").info["state"] == "interrupted"


@pytest.mark.faults
def test_a_signal_to_one_stops_all(
    tmp_path: Path, running: Callable[..., tuple[subprocess.Popen[str], int]]
) -> None:
    process, second = running()
    os.kill(second, signal.SIGTERM)
    _, errors = finished(process)
    run = fbf.load_run(tmp_path / "r")
    assert run.info["state"] in ("interrupted", "failed")  # the latter in the midst of a test
    assert errors.count("Go on with: fivebyfive train") == 1


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "more processes than images": (
        ("lenet", "--data", "sample", "--batch-size", "1"),
        "2 processes can't share batches of 1 images",
    ),
    "data that isn't there": (("lenet", "--data", "nowhere"), "unknown dataset 'nowhere'"),
    "a folder that is taken": (
        ("lenet", "--data", "sample", "--run", "."),
        "isn't empty; a run never overwrites",
    ),
}


@pytest.mark.parametrize(
    "case",
    [
        name if i == 0 else pytest.param(name, marks=pytest.mark.faults)
        for i, name in enumerate(BAD)
    ],
)
def test_what_cannot_be_is_told_once(tmp_path: Path, case: str) -> None:
    options, message = BAD[case]
    (tmp_path / "something").touch()
    process = train(tmp_path, *options)
    output, errors = finished(process)
    assert output == ""
    assert errors.count("fivebyfive: ") == 1, errors
    assert message in errors
    assert statuses(errors) == [2, 2]


DIFFERENT = {
    "version": ("fivebyfive.__version__ = '0.0'", "the version of fivebyfive is"),
    "torch": ("import torch; torch.__version__ = '0.0'", "the version of PyTorch is"),
    "recipe": ("sys.argv += ['--lr', '0.5']", "the setting lr is 0.9 in process 0 and 0.5 in"),
    "data": ("sys.argv += ['--data', 'other']", "the content of "),
    "device": ("sys.argv += ['--device', 'cuda:77']", "there is no device 'cuda:77' here"),
}


@pytest.mark.faults
@pytest.mark.parametrize("case", DIFFERENT)
def test_processes_that_differ_are_told_apart(tmp_path: Path, tiny_folder: Path, case: str) -> None:
    change, message = DIFFERENT[case]
    shutil.copytree(tiny_folder, tmp_path / "mine")
    shutil.copytree(tiny_folder, tmp_path / "other")
    labels = tmp_path / "other" / "t10k-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[-1] ^= 1
    labels.write_bytes(content)
    (tmp_path / "start.py").write_text(
        "import os, sys\n"
        "import fivebyfive\n"
        "sys.argv[1:] = ['train', 'lenet', '--data', 'mine', '--epochs', '1', '--device', 'cpu']\n"
        "if os.environ['RANK'] == '1':\n"
        f"    {change}\n"
        "from fivebyfive.cli import program\n"
        "sys.exit(program())\n"
    )
    process = torchrun(2, "start.py", cwd=tmp_path)
    _, errors = finished(process)
    assert errors.count("fivebyfive: ") == 1, errors
    assert message in errors
    assert statuses(errors) == [2, 2]
    assert not (tmp_path / "runs").exists()


@pytest.mark.faults
def test_more_processes_than_images_in_the_last_batch(tmp_path: Path) -> None:
    options = ("lenet", "--data", "sample", "--limit", "9", "--batch-size", "4", "--epochs", "3")
    process = train(tmp_path, *options, "--run", "three", processes=3)
    _, errors = finished(process)
    assert process.returncode == 0, errors
    alone = fbf.train(
        "lenet",
        data="sample",
        limit=9,
        batch_size=4,
        epochs=3,
        engine="eager",
        device="cpu",
        run=tmp_path / "one",
        watch="quiet",
    )
    for mine, theirs in zip(rows(alone.path), rows(tmp_path / "three"), strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-6)
        assert math.isfinite(mine["train_loss"])


START = """
import os, sys
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook as register
from fivebyfive.cli import program
from fivebyfive.datasets.pixels import Pixels

calls = []
def fail(*_):
    calls.append(1)
    if {first} <= len(calls) < {first} + {times}:
        raise torch.OutOfMemoryError("out of memory")

def gather(*given, plain=Pixels.__call__):
    if torch.is_grad_enabled():
        fail()
    return plain(*given)

if os.environ.get("RANK") == "1":
    {put}
options = "lenet --data sample --limit 170 --batch-size 17 --optimizer adam --lr 0.01 --epochs 2"
sys.argv[1:] = ["train", *options.split(), "--device", "cpu"]
sys.exit(program())
"""


def start(cwd: Path, **how: object) -> tuple[int, str]:
    (cwd / "start.py").write_text(START.format(**how))
    process = torchrun(2, "start.py", cwd=cwd)
    _, errors = finished(process)
    assert process.returncode is not None
    return process.returncode, errors


@pytest.mark.faults
@pytest.mark.parametrize("first", [3, 4, 5])
def test_memory_that_runs_out_before_the_forward_of_one(tmp_path: Path, first: int) -> None:
    """In the first steps: two calls come before, and the second step adds up other buckets."""
    status, errors = start(tmp_path, first=first, times=1, put="Pixels.__call__ = gather")
    assert status == 0, errors
    assert errors.count("out of memory at 17 images at a time: from here on 3 × 6 or 5") == 1


@pytest.mark.faults
def test_memory_that_runs_out_in_the_optimizer_of_one(tmp_path: Path) -> None:
    """The others have done their step or are doing it; it can be tried once more, with room."""
    status, errors = start(tmp_path, first=5, times=1, put="register(fail)")
    assert status == 0, errors
    assert "out of memory" not in errors


@pytest.mark.faults
def test_memory_that_runs_out_twice_in_the_optimizer_of_one(tmp_path: Path) -> None:
    status, errors = start(tmp_path, first=5, times=2, put="register(fail)")
    assert status != 0
    assert "fivebyfive: process 1 ran out of memory on cpu in the optimizer's step" in errors
    assert "Go on with fewer images at a time: --micro-batch 8." in errors
    assert 1 in statuses(errors)
    assert 0 not in statuses(errors)
