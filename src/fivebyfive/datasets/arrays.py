"""The contents of a dataset's four files, read from a folder and checked for fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..lib.errors import DataError, DataNotFoundError
from . import idx, unpacked
from .catalog import Entry
from .folder import NAMES, find, missing

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Checked:
    """A file that was checked: its ``size`` as it is stored, and the SHA-256 of its content."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Arrays:
    """The four files' contents: images ``uint8 [N, C, H, W]``, labels ``uint8 [N]``."""

    folder: Path
    train_images: NDArray[np.uint8] = field(repr=False)
    train_labels: NDArray[np.uint8] = field(repr=False)
    test_images: NDArray[np.uint8] = field(repr=False)
    test_labels: NDArray[np.uint8] = field(repr=False)
    files: tuple[Checked, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """One image's ``(channels, height, width)``."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """How many classes the training labels tell of: the greatest label plus one."""
        return int(self.train_labels.max()) + 1

    @property
    def digests(self) -> Mapping[str, str]:
        """The SHA-256 of each file's content by the file's usual name."""
        return {name: file.sha256 for name, file in zip(NAMES, self.files, strict=True)}


def read(folder: Path, entry: Entry | None = None, *, fresh: bool = False) -> Arrays:
    """Read the four files of ``folder`` and check that they fit each other.

    ``entry`` is the dataset they have to be, if that is known: nothing larger is read then. With
    ``fresh`` they are read themselves even where an unpacked copy is kept.

    Raises:
        DataNotFoundError: one of the four is missing.
        DataError: one can't be read (see :func:`idx.read`), images and labels differ in number,
            the two splits in the shape of their images, or a test label is in no training class.
    """
    gone = missing(folder)
    if gone:
        raise DataNotFoundError(f"{folder}: no {' and no '.join(gone)} (with or without .gz).")
    paths = [found for name in NAMES if (found := find(folder, name))]
    greatest = [file.size for file in entry.files] if entry else [idx.GREATEST] * len(paths)
    # From the headers, so that files which don't fit are refused before they take any memory.
    _check_shapes(
        paths, [idx.shape(p, idx.kind_of(p), g) for p, g in zip(paths, greatest, strict=True)]
    )
    contents = unpacked.read(paths, greatest, fresh=fresh)
    _check_shapes(paths, [content.values.shape for content in contents])
    train_images, train_labels, test_images, test_labels = (c.values for c in contents)
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
        files=tuple(
            Checked(path, content.stored, content.sha256)
            for path, content in zip(paths, contents, strict=True)
        ),
    )


def _check_shapes(paths: Sequence[Path], shapes: Sequence[Shape]) -> None:
    train_images, train_labels, test_images, test_labels = shapes
    _same_count(train_images, train_labels, paths[0], paths[1])
    _same_count(test_images, test_labels, paths[2], paths[3])
    if train_images[1:] != test_images[1:]:
        raise DataError(
            f"{paths[2]}: images of {_by(test_images)}; expected {_by(train_images)}, "
            f"as in {paths[0].name}."
        )


def _same_count(images: Shape, labels: Shape, image_file: Path, label_file: Path) -> None:
    if images[0] != labels[0]:
        raise DataError(
            f"{label_file}: {labels[0]:,} labels; expected {images[0]:,}, as many as there "
            f"are images in {image_file.name}."
        )


def _with_channels(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return images[:, np.newaxis] if images.ndim == 3 else images


def _by(images: Shape) -> str:
    return "×".join(map(str, images[1:]))
