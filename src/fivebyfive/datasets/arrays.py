"""The contents of a dataset's four files, read from a folder and checked for fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, DataNotFoundError
from . import idx
from .folder import NAMES, find, missing


@dataclass(frozen=True)
class Arrays:
    """The four files' contents: images ``uint8 [N, C, H, W]``, labels ``uint8 [N]``.

    ``digests`` holds the SHA-256 of each file's content by its usual name.
    """

    folder: Path
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]
    digests: Mapping[str, str]

    @property
    def shape(self) -> tuple[int, int, int]:
        """One image's ``(channels, height, width)``."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """How many classes the training labels tell of: the greatest label plus one."""
        return int(self.train_labels.max()) + 1


def read(folder: Path) -> Arrays:
    """Read the four files of ``folder`` and check that they fit each other.

    Raises:
        DataNotFoundError: one of the four is missing.
        DataError: one can't be read (see :func:`idx.read`), images and labels differ in number,
            the two splits in the shape of their images, or a test label is in no training class.
    """
    gone = missing(folder)
    if gone:
        raise DataNotFoundError(f"{folder}: no {' and no '.join(gone)} (with or without .gz).")
    paths = [found for name in NAMES if (found := find(folder, name))]
    contents = [idx.read(path, idx.kind_of(path)) for path in paths]
    train_images, train_labels, test_images, test_labels = (c.values for c in contents)
    _same_count(train_images, train_labels, paths[0], paths[1])
    _same_count(test_images, test_labels, paths[2], paths[3])
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataError(
            f"{paths[2]}: images of {_by(test_images)}; expected {_by(train_images)}, "
            f"as in {paths[0].name}."
        )
    if test_labels.max() > train_labels.max():
        raise DataError(
            f"{paths[3]}: labels out of range: up to {test_labels.max()}, but those of "
            f"{paths[1].name} go only to {train_labels.max()}."
        )
    return Arrays(
        folder=folder,
        train_images=_with_channels(train_images),
        train_labels=train_labels,
        test_images=_with_channels(test_images),
        test_labels=test_labels,
        digests={name: c.sha256 for name, c in zip(NAMES, contents, strict=True)},
    )


def _same_count(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], image_file: Path, label_file: Path
) -> None:
    if len(images) != len(labels):
        raise DataError(
            f"{label_file}: {len(labels):,} labels; expected {len(images):,}, as many as there "
            f"are images in {image_file.name}."
        )


def _with_channels(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return images[:, np.newaxis] if images.ndim == 3 else images


def _by(images: NDArray[np.uint8]) -> str:
    return "×".join(map(str, images.shape[1:]))
