from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fivebyfive import datasets
from fivebyfive.datasets.splits import Dataset, Split


def make_split(count: int, seed: int) -> Split:
    """Images whose class shows: a bright band at a height of its own, in noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    images = torch.randint(0, 60, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 2 * label + 2 : 2 * label + 6] += 180
    return Split(images, labels)


@pytest.fixture
def bands(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A small dataset in Fashion-MNIST's place: 230 + 90 images."""
    names = tuple("0123456789")
    made = Dataset("bands", make_split(230, 1), make_split(90, 2), names, "made", {})
    monkeypatch.setattr(datasets, "load", lambda *_, **__: made)
    return made


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory) -> None:
    # Animators leave their files in the current folder.
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Several threads only wait for each other over batches this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
