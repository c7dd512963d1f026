"""The formats, beside the four IDX files of MNIST, that data of one's own may come in.

To add one: a module here with a :class:`Format`, and its line in :data:`FORMATS`. What it reads
goes to :func:`~fivebyfive.datasets.arrays.from_values`, which checks the fit and digests the values
as if they lay in IDX files, so that the search, the records of a run and a resume need no more.
"""

from __future__ import annotations

from pathlib import Path

from .interface import Format
from .npz import NPZ

FORMATS: tuple[Format, ...] = (NPZ,)


def find(place: Path) -> tuple[Format, Path] | None:
    """The first format that ``place``, a folder or a file, holds data in, and the file.

    Raises:
        DataError: which file is meant isn't clear.
    """
    try:
        found = ((format_, format_.find(place)) for format_ in FORMATS)
        return next(((format_, path) for format_, path in found if path), None)
    except OSError:  # a place that can't be looked into
        return None


def expected() -> str:
    """What all these formats look like, in words."""
    return "; or ".join(format_.expected for format_ in FORMATS)
