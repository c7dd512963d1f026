"""Draw the sample that ships with the package from the full Fashion-MNIST.

The rule: of each class, the first 600 training and the first 100 test images, in the order of the
original files. (Fashion-MNIST comes shuffled, so its first images are as good as any.) Running this
again gives the same content, byte for byte; the digests it prints belong into catalog.py.

    python tools/make_sample.py [FOLDER]
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fivebyfive.datasets import catalog, folder, search


def main(target: Path) -> None:
    """Write the four files into ``target`` and print the digest of each one's content."""
    for name, content in contents().items():
        archive = gzip.compress(content, compresslevel=9, mtime=0)
        (target / f"{name}.gz").write_bytes(archive)
        print(f"{hashlib.sha256(content).hexdigest()}  {name}  ({len(archive):,} bytes as .gz)")


def contents() -> dict[str, bytes]:
    """The content of the four files by name."""
    full = search.named(catalog.FASHION_MNIST).arrays
    train, test = drawn(full.train_labels, 600), drawn(full.test_labels, 100)
    values = (
        full.train_images[train, 0],
        full.train_labels[train],
        full.test_images[test, 0],
        full.test_labels[test],
    )
    return {name: encode(v) for name, v in zip(folder.NAMES, values, strict=True)}


def drawn(labels: NDArray[np.uint8], count: int) -> NDArray[np.intp]:
    """The places of the first ``count`` images of each class, in ascending order."""
    firsts = [np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]
    return np.sort(np.concatenate(firsts))


def encode(values: NDArray[np.uint8]) -> bytes:
    """``values`` as the bytes of an IDX file."""
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.tobytes()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else catalog.SAMPLE.homes[0])
