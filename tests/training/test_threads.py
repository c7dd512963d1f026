"""Trainings at once, in threads of one process: each computes what it computes alone."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import fivebyfive as fbf
from fivebyfive.datasets.splits import Dataset
from fivebyfive.lib.private_draws import PrivateDraws
from fivebyfive.training.events import Event, Noticed


class Noisy(nn.Module):
    """Draws on its own, and drops; its convolutions can't all be fused."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 5)
        self.second = nn.Conv2d(6, 8, 3, stride=2)
        self.last = nn.Linear(8 * 5 * 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.dropout(F.relu(self.second(x)), 0.3, self.training)
        if self.training:
            x = x + 0.1 * torch.rand_like(x)
        return self.last(x.flatten(1))


class Partly(nn.Module):
    """Partly fused: batch normalisation stands between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2))
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Sequential(nn.Conv2d(6, 8, 5), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten())
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(8 * 5 * 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.second(self.norm(self.first(x)))))


class Shared(nn.Module):
    """Draws from Python's generator, which nothing here can replace."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(784, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)) * (1 + random.random())


def layers() -> nn.Module:
    """PyTorch's own, which run in the kernels but for the dropout."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.3), nn.Linear(6 * 12 * 12, 3),
    )  # fmt: skip


def made(kind: Callable[[], nn.Module]) -> nn.Module:
    """With the same weights each time, whoever else draws."""
    with PrivateDraws(0):
        return kind()


KINDS: dict[str, Callable[[], tuple[object, dict[str, object]]]] = {
    "lenet": lambda: ("lenet", {"lr": 0.5}),
    "convnet": lambda: ("convnet", {}),
    "lenet, eager": lambda: ("lenet", {"engine": "eager", "lr": 0.5}),
    "layers": lambda: (made(layers), {"seed": 5}),
    "draws and drops": lambda: (made(Noisy), {"seed": 3}),
    "partly fused": lambda: (made(Partly), {"init": "xavier", "optimizer": "sgd", "lr": 0.1}),
    "partly fused, eager": lambda: (made(Partly), {"engine": "eager"}),
}
PAIRS = [
    ("lenet", "convnet"),
    ("lenet", "lenet"),
    ("draws and drops", "draws and drops"),
    ("draws and drops", "partly fused"),
    ("partly fused", "lenet, eager"),
    ("partly fused, eager", "convnet"),
]


def train(kind: str, data: Dataset, folder: Path, wait: Callable[[], object]) -> str:
    what, settings = KINDS[kind]()
    wait()
    run = fbf.train(
        what,  # type: ignore[arg-type]
        data=data,
        run=folder,
        watch="quiet",
        device="cpu",  # type: ignore[arg-type]
        **{"epochs": 2, "batch_size": 16, **settings},  # type: ignore[arg-type]
    )
    return hashlib.sha256((run.path / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def alone() -> dict[str, str]:
    """What each kind comes to alone, once it is known."""
    return {}


#: All at once, and in turns of two; the latter takes its time.
ROUNDS = [
    (tuple(KINDS), 1),
    *(pytest.param(pair, 1, marks=pytest.mark.slow) for pair in PAIRS),
    *(pytest.param(kinds, 50, marks=pytest.mark.slow) for kinds in (*PAIRS, tuple(KINDS))),
]


@pytest.mark.parametrize(("kinds", "rounds"), ROUNDS)
def test_at_once_each_computes_what_it_computes_alone(
    kinds: tuple[str, ...], rounds: int, tiny: Dataset, tmp_path: Path, alone: dict[str, str]
) -> None:
    for kind in set(kinds) - alone.keys():
        alone[kind] = train(kind, tiny, tmp_path / f"alone {kind}", lambda: None)
    for number in range(rounds):
        barrier = threading.Barrier(len(kinds))
        with ThreadPoolExecutor(len(kinds)) as pool:
            ends = pool.map(
                lambda kind, place, n=number, b=barrier: train(
                    kind, tiny, tmp_path / f"{n} {place}", b.wait
                ),
                kinds,
                range(len(kinds)),
            )
            assert list(ends) == [alone[kind] for kind in kinds]


@pytest.mark.parametrize("kind", KINDS)
def test_the_shared_generators_are_neither_read_nor_moved(
    kind: str, tiny: Dataset, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    train(kind, tiny, tmp_path / "one", lambda: None)
    torch.manual_seed(2)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    end = train(kind, tiny, tmp_path / "two", lambda: None)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]
    assert hashlib.sha256((tmp_path / "one" / "model.safetensors").read_bytes()).hexdigest() == end


def test_a_thread_that_draws_meanwhile_gets_its_numbers(tiny: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(4)
    expected = torch.rand(2000)
    torch.manual_seed(4)
    drawn: list[Tensor] = []
    thread = threading.Thread(
        target=lambda: drawn.extend(torch.rand(1) for _ in range(2000)), daemon=True
    )
    thread.start()
    train("partly fused", tiny, tmp_path / "run", lambda: None)
    thread.join()
    assert torch.equal(torch.cat(drawn), expected)


@pytest.mark.parametrize("kind", ["lenet", "convnet", "layers", "partly fused"])
def test_a_thread_that_draws_by_python_and_numpy_changes_nothing(
    kind: str, tiny: Dataset, tmp_path: Path, alone: dict[str, str]
) -> None:
    if kind not in alone:
        alone[kind] = train(kind, tiny, tmp_path / "alone", lambda: None)
    random.seed(6)
    np.random.seed(6)
    mine, over, wrong = (random.Random(6), np.random.RandomState(6)), threading.Event(), []

    def draw() -> None:
        while not over.wait(0.0002):
            if (random.random(), np.random.rand()) != (mine[0].random(), mine[1].rand()):
                wrong.append(1)

    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(draw)
        ends = {train(kind, tiny, tmp_path / str(n), lambda: None) for n in range(3)}
        over.set()
        drawing.result()
    assert ends == {alone[kind]}
    assert not wrong


class Notices:
    def __init__(self) -> None:
        self.kinds: list[str] = []

    def on(self, event: Event) -> None:
        if isinstance(event, Noticed):
            self.kinds.append(event.kind)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("kind", "told"), [(Shared, 1), (Noisy, 0), (Partly, 0)])
def test_who_draws_from_the_shared_generators_is_told(
    kind: type[nn.Module], told: int, tiny: Dataset, tmp_path: Path
) -> None:
    notices = Notices()
    fbf.train(
        made(kind), data=tiny, run=tmp_path / "r", epochs=1, watch="quiet", listeners=[notices]
    )
    assert notices.kinds.count("random") == told
