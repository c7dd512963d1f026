"""What a dataset is once it is loaded: two splits of whole, unscaled images, and their origin."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images ``uint8 [N, C, H, W]`` and labels ``int64 [N]``, both whole on one device."""

    images: Tensor
    labels: Tensor

    def __repr__(self) -> str:
        return f"<Split of {len(self):,} images of {_by(self.shape)}>"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """One image's ``(channels, height, width)``."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def head(self, count: int) -> Split:
        """The first ``count`` images, or all if there are fewer."""
        return Split(self.images[:count], self.labels[:count])

    def to(self, device: torch.device) -> Split:
        """The same split held on ``device``."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A training and a test split with their provenance.

    ``source`` says in words where the files lay; ``digests`` holds the SHA-256 of each file's
    content (decompressed) by its IDX name; ``notice`` is what the user must be told, if anything.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    source: str
    digests: Mapping[str, str]
    notice: str | None = None

    def head(self, limit: int) -> Dataset:
        """The same dataset with the first ``limit`` images of each split alone."""
        return dataclasses.replace(self, train=self.train.head(limit), test=self.test.head(limit))

    def __repr__(self) -> str:
        images = f"{len(self.train):,} + {len(self.test):,} images of {_by(self.train.shape)}"
        return f"<Dataset {self.name}: {images}, {len(self.classes)} classes, from {self.source}>"


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
