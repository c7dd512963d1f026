"""NumPy's archives of arrays, ``.npz``: as Keras keeps MNIST, and MedMNIST its pictures.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. No pickle is read.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...lib.errors import DataError
from .. import idx
from ..arrays import Arrays, from_values
from .interface import Format

#: What the four arrays are called: by Keras, and by MedMNIST.
_NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)
#: What zipfile, zlib and NumPy raise for archives that are damaged, encrypted or packed otherwise.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    RuntimeError,
    KeyError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)
_EXPECTED = f"one .npz file with the arrays {' or '.join(', '.join(names) for names in _NAMES)}"


def find(place: Path) -> Path | None:
    """``place`` itself, or the one ``.npz`` file in it.

    Raises:
        DataError: there are several.
    """
    if place.is_file():
        return place if place.suffix == ".npz" else None
    found = sorted(place.glob("*.npz")) if place.is_dir() else []
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{place}: holds {names}; expected one. Name the file itself.")
    return found[0] if found else None


def read(path: Path) -> Arrays:
    """The four arrays of a ``.npz`` file.

    Images are ``uint8 [N, H, W]``, ``[N, H, W, C]`` or ``[N, C, H, W]``, with 1 or 3 channels;
    labels are whole numbers from 0 to 255, ``[N]`` or ``[N, 1]``.

    Raises:
        DataError: it can't be read, lacks one of the arrays, or they are of another kind.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = _names(archive, path)
        with np.load(path, allow_pickle=False) as arrays:
            values = [arrays[name] for name in names]
    except DataError:
        raise
    except _UNREADABLE as error:
        raise DataError(f"{path}: can't be read as .npz: {error}.") from error
    convert = (_images, _labels, _images, _labels)
    read = [each(v, f"{path}: {n}") for each, v, n in zip(convert, values, names, strict=True)]
    return from_values(path, names, *read)


def _names(archive: zipfile.ZipFile, path: Path) -> tuple[str, ...]:
    """What the four arrays are called here; their sizes are checked before any is unpacked."""
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    names = next((names for names in _NAMES if members.keys() >= set(names)), None)
    if names is None:
        held = ", ".join(sorted(members)) or "nothing"
        raise DataError(f"{path}: holds {held}; expected {_EXPECTED}.")
    for name in names:
        idx.check_unpacked(members[name].file_size, members[name].compress_size, f"{path}: {name}")
    return names


def _images(values: NDArray[np.generic], what: str) -> NDArray[np.uint8]:
    """As ``uint8 [N, H, W]`` or ``[N, C, H, W]``, the latter only with more than one channel."""
    if values.dtype != np.uint8:
        raise DataError(
            f"{what}: {values.dtype} values; expected uint8, 0 to 255. If yours go from 0 to 1: "
            "(255 * x).round().astype('uint8')."
        )
    if values.ndim == 4 and values.shape[-1] in (1, 3) and values.shape[1] not in (1, 3):
        values = values.transpose(0, 3, 1, 2)
    if values.ndim == 4 and values.shape[1] == 1:
        values = values[:, 0]
    if (
        values.ndim not in (3, 4)
        or 0 in values.shape
        or (values.ndim == 4 and values.shape[1] != 3)
    ):
        shape = "×".join(map(str, values.shape))
        raise DataError(
            f"{what}: shape {shape}; expected [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 "
            "channels."
        )
    return np.ascontiguousarray(values, np.uint8)


def _labels(values: NDArray[np.generic], what: str) -> NDArray[np.uint8]:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or not len(values) or values.dtype.kind not in "ui":
        shape = "×".join(map(str, values.shape))
        raise DataError(
            f"{what}: {values.dtype} of shape {shape}; expected one whole number for each image."
        )
    if int(values.min()) < 0 or int(values.max()) > 255:
        raise DataError(f"{what}: from {values.min()} to {values.max()}; expected 0 to 255.")
    return np.ascontiguousarray(values, np.uint8)


NPZ = Format("npz", _EXPECTED, find, read)
