from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fivebyfive import recipes
from fivebyfive.lib import free_memory
from fivebyfive.memory.estimate import MARGIN, MemoryEstimate, estimate_memory, halves
from fivebyfive.memory.step import Memory
from fivebyfive.training.session import Session, prepare

MB = 10**6


@pytest.fixture
def session(tiny_folder) -> Session:
    return ready(tiny_folder)


def ready(folder, network: nn.Module | None = None, **changes) -> Session:
    recipe = recipes.get("lenet-d2l").but(batch_size=40, **changes)
    return prepare(recipe, network=network, folder=folder, device="cpu", engine="eager")


@pytest.fixture
def room(monkeypatch):
    """Sets how much there is beside what is held, which is 300 MB."""
    monkeypatch.setattr(free_memory, "resident", lambda: 300 * MB)

    def leave(amount: int | None) -> None:
        monkeypatch.setattr(free_memory, "free", lambda _: amount)

    leave(10_000 * MB)
    return leave


def made_up(**changes) -> MemoryEstimate:
    step = Memory(
        weights=100 * MB, gradients=100 * MB, optimizer=0, activations=2500 * MB,
        images=100 * MB, workspace=200 * MB,
    )  # fmt: skip
    values = {
        "program": 300 * MB, "data": 50 * MB, "checkpoint": 50 * MB, "step": step,
        "fragmentation": 0, "testing": 2000 * MB, "least": 900 * MB, "available": 21_700 * MB,
        "batch_size": 128, "micro_batch": 128, "tested": 500, "test_batch": 500, "exact": True,
    }  # fmt: skip
    return MemoryEstimate(**{**values, **changes})


def test_what_fits_is_said_so():
    assert str(made_up()) == "needs about 3.4 GB of 21.7 GB: fits"
    assert made_up().fits
    assert str(made_up(testing=5000 * MB)) == "needs about 5 GB of 21.7 GB: fits"


def test_what_does_not_fit_says_what_will_be_done():
    split = made_up(available=2000 * MB, micro_batch=32)
    assert not split.fits
    assert str(split) == (
        "needs about 3.4 GB, 2 GB are available: doesn't fit whole, so the batch of 128 is "
        "computed as 4 × 32 (the result stays the same)"
    )
    assert str(made_up(batch_size=100, micro_batch=12)).endswith(
        "the batch of 100 is computed as 9 × 12 or 11 (the result stays the same)"
    )
    assert "(the result changes" in str(made_up(micro_batch=32, exact=False))
    assert str(made_up(test_batch=125)).endswith("whole, so 125 images are tested at a time")


def test_what_cannot_be_split_enough_says_what_to_do():
    for hopeless in (made_up(micro_batch=None), made_up(test_batch=None)):
        assert "needs about 900 MB even for one image at a time" in str(hopeless)
        assert "--resize" in str(hopeless)
        assert not hopeless.fits


def test_where_nobody_tells_what_there_is():
    assert str(made_up(available=None)) == (
        "needs about 3.4 GB; how much there is can't be told here"
    )


def test_json_is_plain():
    values = made_up().as_dict()
    assert json.loads(json.dumps(values)) == values
    assert (values["peak"], values["fits"]) == (3400 * MB, True)


def test_the_parts_of_a_small_training(session, room):
    found = estimate_memory(session)
    weights = 4 * sum(p.numel() for p in session.network.parameters())
    stored = sum(
        t.nbytes for s in (session.data.train, session.data.test) for t in vars(s).values()
    )
    assert (found.step.weights, found.step.gradients, found.step.optimizer) == (weights, weights, 0)
    assert found.step.images == 40 * 784 * 4
    assert found.data == stored
    assert found.program == 300 * MB - stored - weights
    assert found.available == 10_300 * MB
    assert (found.batch_size, found.micro_batch, found.tested, found.test_batch) == (40, 40, 20, 20)
    assert found.peak == max(found.training, found.testing) > 300 * MB


def test_adams_moments_count_once(tiny_folder, room):
    plain, adam = (estimate_memory(ready(tiny_folder, optimizer=name)) for name in ("sgd", "adam"))
    assert adam.step.optimizer == 2 * adam.step.weights
    assert adam.program == plain.program


def test_the_batch_is_halved_until_it_fits(session, room):
    whole = estimate_memory(session)
    for count in halves(40):
        room(int((1 + MARGIN) * (estimate_memory(session, count).training - 300 * MB)) + 1)
        assert estimate_memory(session).micro_batch == count
    room(1)
    assert estimate_memory(session).micro_batch is None
    least = estimate_memory(session).least
    assert whole.least is None
    assert least is not None
    assert least < whole.peak


def test_a_test_is_split_on_its_own(session, room):
    small = estimate_memory(session, 1)
    assert small.testing > small.training  # twenty images tested at once, one trained on
    room(int((1 + MARGIN) * (small.testing - 300 * MB)) - 1)
    found = estimate_memory(session, 1)
    assert found.micro_batch == 1
    assert found.test_batch in (10, 5, 2, 1)
    assert not found.fits


def test_no_limit_known_means_nothing_is_split(session, room):
    room(None)
    found = estimate_memory(session)
    assert found.fits
    assert found.available is None


def test_batch_statistics_are_not_exact(tiny_folder, room):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(2704, 3))
    assert not estimate_memory(ready(tiny_folder, network)).exact
    network[1].eval()  # its statistics are frozen
    assert estimate_memory(ready(tiny_folder, network)).exact


def test_estimating_changes_nothing(session, room):
    before = {name: t.clone() for name, t in session.network.state_dict().items()}
    random = torch.get_rng_state()
    estimate_memory(session)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(t, before[name]) for name, t in session.network.state_dict().items())
    assert all(p.grad is None for p in session.network.parameters())


@given(st.integers(1, 5000))
def test_halves_go_down_to_one(count):
    found = list(halves(count))
    assert found[0] == count
    assert found[-1] == 1
    assert found == sorted(set(found), reverse=True)
    assert all(a // 2 == b for a, b in itertools.pairwise(found))


CHILD = """
import sys
from fivebyfive import recipes
from fivebyfive.lib import free_memory
from fivebyfive.memory.estimate import estimate_memory
from fivebyfive.training.session import prepare

class Unkept:
    def __getattr__(self, name):
        return lambda *args, **kwargs: None

name, batch, engine = sys.argv[1:]
changes = {"batch_size": int(batch), "epochs": 1, "limit": 4 * int(batch), "dataset": "sample"}
session = prepare(recipes.get(name).but(**changes), device="cpu", engine=engine)
estimate = estimate_memory(session)
session.run(session.started(None), [], Unkept())
print(estimate.peak - estimate.checkpoint, free_memory.most_resident())
"""

slow = pytest.mark.slow


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("engine", ["auto", pytest.param("eager", marks=slow)])
@pytest.mark.parametrize(
    ("name", "batch"),
    [
        ("lenet-d2l", 64),
        pytest.param("lenet-d2l", 1000, marks=slow),
        pytest.param("convnet-mnist", 512, marks=slow),
        pytest.param("alexnet-d2l", 16, marks=slow),
        pytest.param("alexnet-d2l", 128, marks=slow),
    ],
)
def test_a_real_training_takes_about_what_was_said(name, batch, engine):
    """Within 15 %, in a process of its own; without checkpoints, as none is written here."""
    command = [sys.executable, "-c", CHILD, name, str(batch), engine]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    estimate, measured = map(int, done.stdout.split()[-2:])
    assert estimate == pytest.approx(measured, rel=0.15)
