"""A made-up dataset of four tiny IDX files, and places to find it that are the test's own."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fivebyfive.datasets import catalog
from fivebyfive.datasets.catalog import Entry, File
from fivebyfive.datasets.folder import NAMES

OWN_DATA = os.environ.get("FIVEBYFIVE_DATA")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the machine's own data is seen; returns the (missing) cache folder."""
    for name in ("FIVEBYFIVE_DATA", "FIVEBYFIVE_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    cache = tmp_path / "cache"
    monkeypatch.setenv("FIVEBYFIVE_CACHE", str(cache))
    monkeypatch.setenv("NO_PROXY", "*")
    return cache


@pytest.fixture
def own_data(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test see the data that whoever runs it has named by $FIVEBYFIVE_DATA after all."""
    if OWN_DATA:
        monkeypatch.setenv("FIVEBYFIVE_DATA", OWN_DATA)


@pytest.fixture(scope="session")
def encode() -> Callable[[np.ndarray], bytes]:
    def encode(values: np.ndarray) -> bytes:
        header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
        return header + values.astype(np.uint8).tobytes()

    return encode


@dataclass
class Tiny:
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


@pytest.fixture
def make(encode: Callable[[np.ndarray], bytes], tmp_path: Path) -> Callable[..., Tiny]:
    def make(name: str = "tiny", seed: int = 0, mirrors: tuple[str, ...] = ("http://x",)) -> Tiny:
        rng = np.random.default_rng(seed)
        arrays = [rng.integers(0, 256, (n, 6, 5)) for n in (40, 20)]
        labels = [np.arange(n) % 4 for n in (40, 20)]
        values = (arrays[0], labels[0], arrays[1], labels[1])
        contents = {n: encode(v) for n, v in zip(NAMES, values, strict=True)}
        archives = {n: gzip.compress(c, mtime=0) for n, c in contents.items()}
        files = tuple(
            File(n, hashlib.sha256(contents[n]).hexdigest(), hashlib.md5(archives[n]).hexdigest())
            for n in NAMES
        )
        entry = Entry(
            name=name,
            title="Four tiny files",
            classes=("a", "b", "c", "d"),
            files=files,
            licence="none",
            folders=(name, "Tiny/raw"),
            homes=(tmp_path / "installed",),
            mirrors=mirrors,
            package="dataset-tiny",
            stand_in="sample",
        )
        return Tiny(contents, archives, entry)

    return make


@pytest.fixture
def tiny(make: Callable[..., Tiny], monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """A tiny dataset that the catalog knows as ``tiny``, with a mirror that can't be reached."""
    made = make(mirrors=("http://127.0.0.1:9/tiny",))
    monkeypatch.setitem(catalog.CATALOG, "tiny", made.entry)
    return made
