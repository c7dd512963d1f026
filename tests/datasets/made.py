"""Small datasets, made up: what their four files hold, and the catalog entry that knows them."""

from __future__ import annotations

import gzip
import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fivebyfive.datasets.catalog import Entry, File
from fivebyfive.datasets.folder import NAMES


def encode(values: np.ndarray) -> bytes:
    """``values`` as the bytes of an IDX file."""
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(np.uint8).tobytes()


@dataclass
class Made:
    """Four IDX files' bytes by name, and the catalog entry that knows them."""

    contents: dict[str, bytes]
    archives: dict[str, bytes]
    entry: Entry

    def put(self, folder: Path, *, gz: bool = True) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            if gz:
                (folder / f"{name}.gz").write_bytes(self.archives[name])
            else:
                (folder / name).write_bytes(self.contents[name])
        return folder


def make(
    name: str = "tiny",
    seed: int = 0,
    *,
    mirrors: tuple[str, ...] = ("http://x",),
    homes: tuple[Path, ...] = (),
    train: int = 40,
    test: int = 20,
    shape: tuple[int, ...] = (6, 5),
) -> Made:
    """A dataset of noise, of which half is left when it is packed, in four classes."""
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(0, 16, (n, *shape)) * 16 for n in (train, test)]
    labels = [np.arange(n) % 4 for n in (train, test)]
    values = (arrays[0], labels[0], arrays[1], labels[1])
    contents = {n: encode(v) for n, v in zip(NAMES, values, strict=True)}
    archives = {n: gzip.compress(c, mtime=0) for n, c in contents.items()}
    files = tuple(
        File(
            n,
            len(contents[n]),
            hashlib.sha256(contents[n]).hexdigest(),
            hashlib.md5(archives[n]).hexdigest(),
        )
        for n in NAMES
    )
    entry = Entry(
        name=name,
        title="Four small files",
        classes=("a", "b", "c", "d"),
        files=files,
        licence="none",
        folders=(name, "Tiny/raw"),
        homes=homes,
        mirrors=mirrors,
        package="dataset-tiny",
        stand_in="sample",
    )
    return Made(contents, archives, entry)
