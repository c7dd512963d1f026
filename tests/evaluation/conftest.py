"""A small network, images it was made for, and what it says of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fivebyfive.datasets.splits import Split
from fivebyfive.evaluation.evaluate import Evaluation, evaluate

CLASSES = ("dark", "[grey]", "$bright$ and a long name", "never")


class ByBrightness(nn.Module):
    """Scores for four classes by the mean of the image; the last is never said."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.tensor([0.1, 0.5, 0.9]))
        self.dropout = nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Tensor:
        scores = -40 * (x.flatten(1).mean(1, keepdim=True) - self.levels) ** 2
        return self.dropout(torch.cat([scores, torch.full_like(scores[:, :1], -50)], dim=1))


def pixels(images: Tensor) -> Tensor:
    return images.float() / 255


@pytest.fixture
def network() -> nn.Module:
    return ByBrightness()


@pytest.fixture(scope="session")
def split() -> Split:
    """Twelve images of one brightness each; the labels of 2, 3 and 9 don't fit what they show."""
    levels = torch.tensor([25, 128, 100, 255, 230, 20, 120, 240, 30, 140, 235, 10])
    images = levels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 5).contiguous()
    labels = torch.tensor([0, 1, 0, 0, 2, 0, 1, 2, 0, 2, 2, 0])
    return Split(images, labels)


@pytest.fixture(scope="session")
def verdict(split: Split) -> Evaluation:
    return evaluate(ByBrightness(), split, pixels, "cross-entropy", CLASSES)
