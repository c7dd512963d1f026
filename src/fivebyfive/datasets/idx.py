"""Reading IDX, the file format of MNIST, with every way it can be wrong told apart.

A file is: two zero bytes, the element type (8 for unsigned bytes, the only one read here), the
number of dimensions, each dimension as a big-endian 32-bit number, then the elements, row by row.
Source: https://yann.lecun.com/exdb/mnist/. Files may be gzipped; their first bytes tell, not their
names.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, DataNotFoundError

Kind = Literal["images", "labels"]

#: Dimensions allowed: [N, H, W] or [N, C, H, W] for images, [N] for labels.
_RANKS: dict[Kind, tuple[int, ...]] = {"images": (3, 4), "labels": (1,)}
_TYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
_GZIP = b"\x1f\x8b"
#: Deflate can't shrink anything by more than this, so a header that promises more is a lie.
_GREATEST_RATIO = 1032
_GREATEST = 4 << 30  # bytes
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Content:
    """What an IDX file holds, and the SHA-256 of the whole file once decompressed."""

    values: NDArray[np.uint8]
    sha256: str


def read(path: Path, kind: Kind) -> Content:
    """Read one IDX file of images or labels, gzipped or not.

    Memory is taken up only as fast as the file really yields bytes, whatever its header promises.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: it is empty, truncated, corrupt, too long, of another kind, or can't be read.
    """
    if not path.exists():
        raise DataNotFoundError(f"{path}: no such file; expected an IDX file of {kind}.")
    if not path.is_file():
        raise DataError(f"{path}: not a file; expected an IDX file of {kind}.")
    try:
        with path.open("rb") as file:
            return parse(file, path.stat().st_size, kind, path)
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}.") from error


def kind_of(path: Path) -> Kind:
    """Images or labels, as the file's name says."""
    return "images" if "images" in path.name else "labels"


def parse(file: BufferedIOBase, size: int, kind: Kind, path: Path) -> Content:
    """Read an open file of ``size`` bytes; ``path`` is what errors call it.

    Raises:
        DataError: as :func:`read`.
    """
    start = file.read(2)
    file.seek(0)
    if start != _GZIP:
        return _parse(file, size, kind, path)
    try:
        with gzip.GzipFile(fileobj=file) as unpacked:
            return _parse(unpacked, size * _GREATEST_RATIO, kind, path)
    except EOFError:
        raise DataError(f"{path}: the gzip stream is truncated; fetch the file again.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: the gzip stream is corrupt ({error}); fetch the file again."
        ) from error


def _parse(file: BufferedIOBase, limit: int, kind: Kind, path: Path) -> Content:
    digest = hashlib.sha256()
    shape = _header(file, kind, path, digest.update)
    size = math.prod(shape)
    if size > min(limit, _GREATEST):
        raise DataError(
            f"{path}: the header promises {_dims(shape)} = {size:,} bytes, "
            f"but the file can't hold more than {min(limit, _GREATEST):,}; it is truncated or not "
            "an IDX file."
        )
    # Untouched pages of an empty array cost nothing, so a lying header costs nothing either.
    values = np.empty(size, np.uint8)
    view = values.data
    for start in range(0, size, _CHUNK):
        part = view[start : start + _CHUNK]
        got = file.readinto(part)
        if got < len(part):
            raise DataError(
                f"{path}: truncated: the header promises {_dims(shape)} = {size:,} bytes, "
                f"found {start + got:,}; fetch the file again."
            )
        digest.update(part)
    if file.read(1):
        raise DataError(
            f"{path}: bytes are left over after the {_dims(shape)} = {size:,} that the header "
            "promises; the file is corrupt or its header is wrong."
        )
    return Content(values.reshape(shape), digest.hexdigest())


def _header(
    file: BufferedIOBase, kind: Kind, path: Path, seen: Callable[[bytes], None]
) -> tuple[int, ...]:
    """The dimensions the header promises, checked for kind and for being above zero."""
    magic = file.read(4)
    if not magic:
        raise DataError(f"{path}: empty; expected an IDX file of {kind}.")
    ranks = _RANKS[kind]
    expected = " or ".join(f"0x{8:06x}{rank:02x}" for rank in ranks)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        page = ": a web page?" if magic.lstrip()[:1] == b"<" else "."
        raise DataError(
            f"{path}: not an IDX file of {kind}: it starts with 0x{magic.hex()}, "
            f"expected {expected}{page}"
        )
    if magic[2] != 8:
        raise DataError(f"{path}: holds {_TYPES[magic[2]]} values; expected uint8 (type 8).")
    if magic[3] not in ranks:
        other = next((k for k, r in _RANKS.items() if magic[3] in r), None)
        found = f"a file of {other}: are two files swapped?" if other else "something else."
        raise DataError(
            f"{path}: starts with 0x{magic.hex()}, {found} Expected {expected}, {kind}."
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path}: truncated inside its header; fetch the file again.")
    seen(magic)
    seen(sizes)
    shape = struct.unpack(f">{magic[3]}I", sizes)
    if 0 in shape:
        raise DataError(f"{path}: the header says {_dims(shape)}; expected at least one of {kind}.")
    return shape


def _dims(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
