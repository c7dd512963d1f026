# ruff: noqa: N806 (X, Y, K and W are the book's names)
from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from fivebyfive import d2l, datasets
from fivebyfive.d2l.data import Batches, near
from fivebyfive.datasets.pixels import Pixels
from fivebyfive.datasets.splits import Dataset, Split
from fivebyfive.lib.errors import RecipeError


class Textbook(TorchDataset):
    """One image at a time, as the book's loader takes them: PIL, resize, scale to 0..1."""

    def __init__(self, split, resize):
        self.split, self.resize = split, resize

    def __len__(self):
        return len(self.split)

    def __getitem__(self, index):
        image = Image.fromarray(self.split.images[index, 0].numpy())
        if self.resize:
            image = image.resize((self.resize, self.resize), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image))[None].float() / 255
        return pixels, int(self.split.labels[index])


@pytest.mark.parametrize("resize", [None, 56])
def test_same_batches_and_random_state_as_the_textbook_loader(bands, resize):
    ours = d2l.load_data_fashion_mnist(50, resize)
    for mine, split, shuffle in zip(ours, (bands.train, bands.test), (True, False), strict=True):
        theirs = DataLoader(Textbook(split, resize), 50, shuffle=shuffle)
        assert len(mine) == len(theirs)
        torch.manual_seed(5)
        expected = [batch for _ in range(2) for batch in theirs]
        state = torch.get_rng_state()
        torch.manual_seed(5)
        got = [batch for _ in range(2) for batch in mine]
        assert torch.equal(torch.get_rng_state(), state)
        for (X, y), (X_, y_) in zip(got, expected, strict=True):
            assert torch.equal(X, X_)
            assert torch.equal(y, y_)
            assert (X.dtype, y.dtype) == (torch.float32, torch.int64)


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 60), batch_size=st.integers(1, 70))
def test_every_image_comes_once_in_each_pass(count, batch_size):
    split = Split(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.arange(count))
    batches = Batches(split, batch_size, Pixels(), shuffle=True)
    for _ in range(2):
        labels = [y for _, y in batches]
        assert len(labels) == len(batches)
        assert all(len(y) == batch_size for y in labels[:-1])
        assert sorted(torch.cat(labels).tolist()) == list(range(count))


def test_dataset_is_image_by_image(bands):
    train, _ = d2l.load_data_fashion_mnist(32, resize=32)
    assert len(train.dataset) == 230
    image, label = train.dataset[7]
    assert image.shape == (1, 32, 32)
    assert image.max() <= 1
    assert label == 7


def test_on_another_device_keeps_everything_else(bands):
    _, test = d2l.load_data_fashion_mnist(40)
    moved = test.on("meta")
    assert [X.device.type for X, _ in moved] == ["meta"] * 3
    assert [X.shape[0] for X, _ in moved] == [40, 40, 10]


def test_near_moves_a_strangers_batches_even_lists():
    X, y = torch.zeros(2), torch.zeros(2)
    moved = near([([X, X], y), (X, y)], "meta")
    for _ in range(2):
        (parts, label), (whole, _) = moved
        assert [t.device.type for t in (*parts, label, whole)] == ["meta"] * 4


@pytest.mark.parametrize("arguments", [(0,), (-1,), (2.5,), (True,), (8, 0), (8, "32")])
def test_refuses_what_is_no_count(bands, arguments):
    with pytest.raises(RecipeError, match="expected a whole number of at least 1"):
        d2l.load_data_fashion_mnist(*arguments)


def test_stand_in_is_told_of_once_on_stderr(bands, monkeypatch, capsys):
    parts = {**vars(bands), "notice": "only a sample"}
    monkeypatch.setattr(datasets, "load", lambda *_, **__: Dataset(**parts))
    d2l.load_data_fashion_mnist(8)
    d2l.load_data_fashion_mnist(8)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "only a sample\n"


def test_labels_have_the_books_names():
    assert d2l.get_fashion_mnist_labels(torch.tensor([0, 9, 3])) == [
        "t-shirt",
        "ankle boot",
        "dress",
    ]


def test_load_array():
    X, y = torch.arange(10.0).reshape(10, 1), torch.arange(10)
    in_order = list(d2l.load_array((X, y), 4, is_train=False))
    assert [len(b) for _, b in in_order] == [4, 4, 2]
    assert torch.equal(torch.cat([a for a, _ in in_order]), X)
    shuffled = torch.cat([b for _, b in d2l.load_array((X, y), 4)])
    assert sorted(shuffled.tolist()) == list(range(10))
