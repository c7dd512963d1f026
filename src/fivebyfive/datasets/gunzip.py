"""Unpacking a gzip file in time and memory that its own size bounds, whoever made it.

Python's ``gzip`` takes any number of archives one after the other and reads the name in a header
byte by byte, so that a file of a few megabytes can keep it busy for minutes. Here zlib does all the
work, and a file is one archive, as those of the MNIST family are.
"""

from __future__ import annotations

import io
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from ..lib.errors import DataError

_CHUNK = 1 << 16  # bytes of the archive at a time
_WITH_HEADER = 31  # zlib's name for gzip: its largest window, and the header and sums checked
_AGAIN = "fetch the file again."


class Gunzip(io.RawIOBase):
    """What the open gzip file ``file`` holds; ``path`` is what errors call it.

    Reading raises a :class:`~fivebyfive.errors.DataError` where the archive is truncated or
    corrupt, its checksum is wrong, or anything follows after it.
    """

    def __init__(self, file: BufferedIOBase, path: Path) -> None:
        self._file = file
        self._path = path
        self._inflate = zlib.decompressobj(_WITH_HEADER)

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the start of ``buffer``; returns how many bytes of it, 0 at the end."""
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(_CHUNK)
            if not packed:
                raise DataError(f"{self._path}: the gzip stream is truncated; {_AGAIN}")
            try:
                content = self._inflate.decompress(packed, len(buffer))
            except zlib.error as error:
                raise DataError(
                    f"{self._path}: the gzip stream is corrupt ({error}); {_AGAIN}"
                ) from error
            if content:
                buffer[: len(content)] = content
                return len(content)
        if self._inflate.unused_data or self._file.read(1):
            raise DataError(
                f"{self._path}: bytes follow after the end of the gzip stream; expected one "
                f"archive and nothing else; {_AGAIN}"
            )
        return 0
