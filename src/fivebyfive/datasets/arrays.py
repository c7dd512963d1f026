"""The images and labels of a dataset, checked for fit: of the four IDX files, or of others."""

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
    train_images, train_labels, test_images, test_labels = values = [c.values for c in contents]
    _check_fit(paths, values)
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


def from_values(
    path: Path,
    names: Sequence[str],
    train_images: NDArray[np.uint8],
    train_labels: NDArray[np.uint8],
    test_images: NDArray[np.uint8],
    test_labels: NDArray[np.uint8],
) -> Arrays:
    """What another format's file held, checked as :func:`read` checks the four IDX files.

    Its digests are those of the IDX files with the same values, so that a dataset that is known is
    known in any format.

    Args:
        path: the file, or the folder, that they came from.
        names: what the four are called in it, for errors.
        train_images: contiguous ``[N, H, W]``, or ``[N, C, H, W]``.
        train_labels: contiguous ``[N]``.
        test_images: likewise.
        test_labels: likewise.

    Raises:
        DataError: they don't fit each other.
    """
    values = (train_images, train_labels, test_images, test_labels)
    places = [path / name for name in names]
    _check_fit(places, values)
    return Arrays(
        path,
        _with_channels(train_images),
        train_labels,
        _with_channels(test_images),
        test_labels,
        files=tuple(
            Checked(place, each.nbytes, idx.digest(each))
            for place, each in zip(places, values, strict=True)
        ),
    )


def _check_fit(paths: Sequence[Path], values: Sequence[NDArray[np.uint8]]) -> None:
    _check_shapes(paths, [each.shape for each in values])
    train_labels, test_labels = values[1], values[3]
    if test_labels.max() > train_labels.max():
        raise DataError(
            f"{paths[3]}: labels out of range: up to {test_labels.max()}, but those of "
            f"{paths[1].name} go only to {train_labels.max()}."
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
