"""What several rooms' tests share."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from fivebyfive import datasets
from fivebyfive.datasets.splits import Dataset, Split


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an array of bytes as an IDX file."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture(autouse=True)
def own_world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and no mirror reached: nothing comes from the internet."""
    monkeypatch.setenv("FIVEBYFIVE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("FIVEBYFIVE_OFFLINE", "1")
    monkeypatch.setenv("MPLBACKEND", "agg")


@pytest.fixture(autouse=True, scope="session")
def heard_signals() -> None:
    """What was started in the background, or by nohup, ignores some, and its children do, too."""
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
            signal.signal(number, usual)


@pytest.fixture
def tiny() -> Dataset:
    """Sixty training and twenty test images of 1×28×28 in three classes that are easy to learn."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        labels = torch.arange(count) % 3
        images = torch.randint(0, 60, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
        for index, label in enumerate(labels.tolist()):
            images[index, :, 9 * label : 9 * label + 9] += 180
        return Split(images, labels)

    return Dataset("tiny", split(60), split(20), ("low", "middle", "high"), "made up", {})


@pytest.fixture
def tiny_folder(tiny: Dataset, tmp_path: Path) -> Path:
    """The same images as a folder of four IDX files."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name, split in (("train", tiny.train), ("t10k", tiny.test)):
        write_idx(folder / f"{name}-images-idx3-ubyte", split.images.squeeze(1).numpy())
        write_idx(folder / f"{name}-labels-idx1-ubyte", split.labels.numpy())
    return folder


def full(name: str) -> None:
    """Skip the test where the full dataset isn't on this machine."""
    if not any(place.folder for place in datasets.status(name)):
        pytest.skip(f"needs the full {name}: set FIVEBYFIVE_DATA to a folder that has it")


@pytest.fixture
def fashion_mnist() -> None:
    """For tests that need the full Fashion-MNIST."""
    full("fashion-mnist")


@pytest.fixture
def mnist() -> None:
    """For tests that need the full MNIST."""
    full("mnist")


@pytest.fixture
def same_as_recorded(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compares a text with the one recorded in a file, or with ``RENEW=1`` records it anew."""

    def compare(file: Path, text: str) -> None:
        if os.environ.get("RENEW"):
            file.write_text(text, encoding="utf-8")
        renew = f"RENEW=1 pytest '{request.node.nodeid}'"
        assert file.read_text(encoding="utf-8") == text, f"if the change is meant: {renew}"

    return compare


def _beside(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def training() -> ModuleType:
    """The module ``training_events.py``: ``training.events()`` and the single events in it."""
    return _beside("training_events")


@pytest.fixture(scope="session")
def tolerances() -> ModuleType:
    """The module ``tolerances.py``: how far right results may be apart."""
    return _beside("tolerances")
