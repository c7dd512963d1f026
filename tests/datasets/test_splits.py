import torch

from fivebyfive.datasets.splits import Split


def test_a_split_knows_its_size_and_moves():
    split = Split(torch.zeros(5, 3, 6, 4, dtype=torch.uint8), torch.arange(5))
    assert len(split) == 5
    assert split.shape == (3, 6, 4)
    assert split.head(2).labels.tolist() == [0, 1]
    assert len(split.head(9)) == 5
    moved = split.to(torch.device("meta"))
    assert moved.images.device.type == moved.labels.device.type == "meta"
