"""IDX, the file format of MNIST, read with every way it can be wrong told apart.

A file is: two zero bytes, the element type (8 for unsigned bytes, the only one read here), the
number of dimensions, each dimension as a big-endian 32-bit number, then the elements, row by row.
Source: https://yann.lecun.com/exdb/mnist/. Files may be gzipped; their first bytes tell, not their
names.

What a file claims to hold is checked against its size before any memory is taken for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..lib import files
from ..lib.errors import DataError, DataNotFoundError
from .gunzip import Gunzip

Kind = Literal["images", "labels"]

#: The largest content that is read, in bytes.
GREATEST = 4 << 30
#: Dimensions allowed: [N, H, W] or [N, C, H, W] for images, [N] for labels.
_RANKS: dict[Kind, tuple[int, ...]] = {"images": (3, 4), "labels": (1,)}
_TYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
_GZIP = b"\x1f\x8b"
#: An archive may hold this much whatever its own size is, and more only in proportion to it.
#: Pictures shrink to a half or a tenth; what shrinks more than fiftyfold is made to fill memory.
_HARMLESS = 64 << 20
_RATIO = 50
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Content:
    """What an IDX file holds: its values, and the SHA-256 of the whole once decompressed.

    ``stored`` is the size in bytes of the file itself, ``packed`` whether that is an archive.
    """

    values: NDArray[np.uint8] = field(repr=False)
    sha256: str
    stored: int
    packed: bool


def read(path: Path, kind: Kind, greatest: int = GREATEST) -> Content:
    """Read one IDX file of images or labels, gzipped or not.

    ``greatest`` is the size in bytes beyond which it can't be the file looked for. Memory is taken
    up only as fast as the file really yields bytes, whatever its header promises.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: it is empty, truncated, corrupt, too long, out of proportion, of another kind, or
            can't be read.
    """
    with _opened(path, kind) as (file, size):
        return parse(file, size, kind, path, greatest)


def shape(path: Path, kind: Kind, greatest: int = GREATEST) -> tuple[int, ...]:
    """The dimensions of an IDX file, from no more than its header.

    Raises:
        DataError: as :func:`read`, for all that header and size tell.
    """
    with _opened(path, kind) as (file, size):
        source, packed = _source(file, path)
        header = _header(source, kind, path)
        _check_size(header, size, packed, path, greatest)
        return header.shape


def parse(
    file: BufferedIOBase, size: int, kind: Kind, path: Path, greatest: int = GREATEST
) -> Content:
    """Read an open file of ``size`` bytes; ``path`` is what errors call it.

    Raises:
        DataError: as :func:`read`.
    """
    source, packed = _source(file, path)
    header = _header(source, kind, path)
    _check_size(header, size, packed, path, greatest)
    digest = hashlib.sha256(header.stored)
    values = _empty(header, path)
    view = values.data
    for start in range(0, len(values), _CHUNK):
        part = view[start : start + _CHUNK]
        got = source.readinto(part)
        if got < len(part):
            raise DataError(
                f"{path}: truncated: the header promises {header}, found {start + got:,}; "
                "fetch the file again."
            )
        digest.update(part)
    if source.read(1):
        raise _left_over(header, path)
    return Content(values.reshape(header.shape), digest.hexdigest(), size, packed)


def write(path: Path, values: NDArray[np.uint8]) -> None:
    """Write ``values`` as an IDX file to ``path``, whole or not at all."""
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_stored(values.shape))
        file.write(np.ascontiguousarray(values).data)


def digest(values: NDArray[np.uint8]) -> str:
    """The SHA-256 of the IDX file that would hold ``values``, which must be contiguous."""
    found = hashlib.sha256(_stored(values.shape))
    found.update(values.data)
    return found.hexdigest()


def check_unpacked(size: int, packed: int, what: str) -> None:
    """Check the size that an archive says its content has, before any of it is unpacked.

    Raises:
        DataError: it is out of proportion to the ``packed`` bytes, or larger than anything read.
    """
    if _out_of_proportion(size, packed):
        raise DataError(f"{what}: {size:,} bytes, out of proportion to an archive of {packed:,}.")
    if size > GREATEST:
        raise DataError(f"{what}: {size:,} bytes; expected no more than {GREATEST:,}.")


def _out_of_proportion(size: int, packed: int) -> bool:
    return size > max(_HARMLESS, _RATIO * packed)


def _stored(shape: tuple[int, ...]) -> bytes:
    """The header of an IDX file of bytes."""
    return bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)


def kind_of(path: Path) -> Kind:
    """Images or labels, as the file's name says."""
    return "images" if "images" in path.name else "labels"


@dataclass(frozen=True)
class _Header:
    """The dimensions that a header promises, and the bytes it is stored in."""

    shape: tuple[int, ...]
    stored: bytes

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{'×'.join(map(str, self.shape))} = {self.count:,} bytes"


@contextlib.contextmanager
def _opened(path: Path, kind: Kind) -> Iterator[tuple[BufferedIOBase, int]]:
    """The open file and its size in bytes."""
    try:
        if not path.exists():
            raise DataNotFoundError(f"{path}: no such file; expected an IDX file of {kind}.")
        if not path.is_file():
            raise DataError(f"{path}: not a file; expected an IDX file of {kind}.")
        with path.open("rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except DataError:  # one of which is an OSError, too
        raise
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}.") from error


def _source(file: BufferedIOBase, path: Path) -> tuple[BufferedIOBase, bool]:
    """Where the content is read from, and whether it is unpacked on the way."""
    packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    return (io.BufferedReader(Gunzip(file, path)), True) if packed else (file, False)


def _header(file: BufferedIOBase, kind: Kind, path: Path) -> _Header:
    """The header, checked for kind and for dimensions above zero."""
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
    header = _Header(struct.unpack(f">{magic[3]}I", sizes), magic + sizes)
    if 0 in header.shape:
        raise DataError(f"{path}: the header promises {header}; expected at least one of {kind}.")
    return header


def _check_size(header: _Header, size: int, packed: bool, path: Path, greatest: int) -> None:
    """Check what the header promises against the ``size`` of the file it stands in."""
    promise = f"{path}: the header promises {header}"
    content = len(header.stored) + header.count
    if packed and _out_of_proportion(content, size):
        raise DataError(
            f"{promise}, out of proportion to an archive of {size:,}. If you know where it comes "
            f"from, unpack it yourself first: gunzip {path.name}"
        )
    if not packed and content > size:
        raise DataError(
            f"{promise}, but the whole file has {size:,}; it is truncated or not an IDX file."
        )
    if not packed and content < size:
        raise _left_over(header, path)
    if content > greatest:
        raise DataError(f"{promise}; expected no more than {greatest:,} with the header.")


def _left_over(header: _Header, path: Path) -> DataError:
    return DataError(
        f"{path}: bytes are left over after the {header} that the header promises; the file is "
        "corrupt or its header is wrong."
    )


def _empty(header: _Header, path: Path) -> NDArray[np.uint8]:
    # Untouched pages of an empty array cost nothing, so a lying header costs nothing either.
    try:
        return np.empty(header.count, np.uint8)
    except MemoryError as error:
        raise DataError(f"{path}: there isn't memory enough for {header}.") from error
