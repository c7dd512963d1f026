"""What the trials share: the process that starts processes, and runs nothing befell."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from .trials import Ended, Outcome, Setting, Victims, outcome

#: AlexNet's layers in small: convolutions, dropout, and then also batch normalisation.
NETWORKS = """
from torch import nn


def features(*between):
    return [
        nn.Conv2d(1, 8, 5, padding=2), *between, nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
    ]


def alexnet_small():
    return nn.Sequential(
        *features(),
        nn.Linear(12 * 6 * 6, 48), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(48, 48), nn.ReLU(), nn.Dropout(0.5), nn.Linear(48, 10),
    )


def normalised():
    return nn.Sequential(*features(nn.BatchNorm2d(8)), nn.Dropout(0.2), nn.Linear(12 * 6 * 6, 10))
"""


MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is such a thing: a kill leaves the same there as on a disk,
    and the hundred fsyncs of a trial cost nothing.
    """
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path_factory.mktemp("memory")
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="faults-") as folder:
        yield Path(folder)


@pytest.fixture
def scratch(memory: Path) -> Iterator[Path]:
    """A test's own folder in memory, gone when it is over."""
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def victims(memory: Path) -> Iterator[Victims]:
    """Starts processes that suffer, in a folder with the networks' file."""
    folder = memory / "victims"
    folder.mkdir()
    (folder / "net.py").write_text(NETWORKS)
    made = Victims(folder, memory / "cache")
    yield made
    made.close()


Undisturbed = Callable[[Setting], tuple[Ended, Outcome]]


@pytest.fixture(scope="session")
def undisturbed(victims: Victims, memory: Path) -> Undisturbed:
    """The run of a setting that nothing befell: how it ended, and what it left."""

    @functools.cache
    def run(setting: Setting) -> tuple[Ended, Outcome]:
        folder = Path(tempfile.mkdtemp(dir=memory)) / "run"
        ended = victims.run(*setting.begin(folder), run=folder, clock=True)
        assert ended.status == 0, ended.err
        return ended, outcome(folder)

    return run


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For training beside several processes, as each of them does: more threads would wait for one
    another on a busy machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
