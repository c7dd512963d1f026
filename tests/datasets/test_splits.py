import torch

from fivebyfive.datasets.splits import Dataset, Split


def test_a_split_knows_its_size_and_moves():
    split = Split(torch.zeros(5, 3, 6, 4, dtype=torch.uint8), torch.arange(5))
    assert len(split) == 5
    assert split.shape == (3, 6, 4)
    assert split.head(2).labels.tolist() == [0, 1]
    assert len(split.head(9)) == 5
    assert split != split.head(9)  # no pixels are compared
    moved = split.to(torch.device("meta"))
    assert moved.images.device.type == moved.labels.device.type == "meta"


def test_printing_one_takes_a_line():
    split = Split(torch.zeros(1200, 3, 6, 4, dtype=torch.uint8), torch.arange(1200))
    assert repr(split) == "<Split of 1,200 images of 3×6×4>"
    data = Dataset("mine", split, split.head(5), ("a", "b"), "a/folder", {})
    assert repr(data) == ("<Dataset mine: 1,200 + 5 images of 3×6×4, 2 classes, from a/folder>")
