"""IDX files, and archives of them, that nobody should believe, made from a seed."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import lzma
import os
import pickle
import random
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tests.datasets.made import Made

from fivebyfive.datasets.folder import NAMES

IMAGES, LABELS = NAMES[:2]
#: A file's bytes, or what makes something that isn't a plain file.
Hostile = bytes | Callable[[Path], object]
#: What it is, the name it comes under, and itself.
Case = tuple[str, str, Hostile]


def cases(made: Made, seed: int) -> Iterator[Case]:
    """All of them, each to lie beside the three other files of ``made``."""
    rng = random.Random(seed)
    for make in (
        damaged_headers,
        lying_sizes,
        damaged_archives,
        strange_archives,
        bombs,
        other_formats,
        noise,
        misfits,
        no_files,
    ):
        yield from make(made, rng)


def header(kind: int, *sizes: int) -> bytes:
    return bytes((0, 0, kind, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes)


def damaged_headers(made: Made, rng: random.Random) -> Iterator[Case]:
    """One bit of the header is wrong, or all that follows a point of it is missing."""
    for name, length in ((IMAGES, 16), (LABELS, 8)):
        for bit in rng.sample(range(8 * length), 24):
            content = bytearray(made.contents[name])
            content[bit // 8] ^= 1 << bit % 8
            yield f"bit {bit} of the header", name, bytes(content)
        for end in range(length):
            yield f"the first {end} bytes", name, made.contents[name][:end]
    for kind in (9, 11, 12, 13, 14):
        yield f"values of type {kind}", IMAGES, header(kind, 40, 6, 5) + bytes(40 * 30)
    for sizes in ((), (1200,), (40, 30), (40, 1, 6, 5, 1), (1,) * 255):
        yield f"{len(sizes)} dimensions", IMAGES, header(8, *sizes) + bytes(1200)


def lying_sizes(made: Made, rng: random.Random) -> Iterator[Case]:
    """The header promises what isn't there: nothing, too much, more than 64 bits can count."""
    most = 2**32 - 1
    for sizes in (
        *((most, most, most), (most, 1, 1), (1 << 31, 1 << 31, 4), (most, most, most, most)),
        *((1 << 16, 1 << 16, 1 << 16, 1 << 16), (0, 6, 5), (40, 0, 5), (0, 0, 0)),
        *((rng.randrange(41, most), 6, 5), (40, rng.randrange(7, most), 5), (40, 6, 4)),
    ):
        content = header(8, *sizes) + made.contents[IMAGES][16:]
        yield f"{sizes} promised", IMAGES, content
        yield f"{sizes} promised in an archive", f"{IMAGES}.gz", gzip.compress(content)
    yield "labels promised", LABELS, header(8, most) + bytes(40)


def damaged_archives(made: Made, rng: random.Random) -> Iterator[Case]:
    """Truncated anywhere, or bits changed where it matters."""
    for name in (IMAGES, LABELS):
        archive = made.archives[name]
        for end in rng.sample(range(3, len(archive)), 12):
            yield f"an archive's first {end} bytes", f"{name}.gz", archive[:end]
        for bit in rng.sample(range(8 * (len(archive) - 8), 8 * len(archive)), 12):
            changed = bytearray(archive)
            changed[bit // 8] ^= 1 << bit % 8
            yield f"bit {bit} of the checksums", f"{name}.gz", bytes(changed)
        for start in rng.sample(range(10, len(archive) - 12), 6):
            changed = bytearray(archive)
            changed[start : start + 4] = bytes(255 - byte for byte in archive[start : start + 4])
            yield f"bytes {start} to {start + 3} turned round", f"{name}.gz", bytes(changed)


def strange_archives(made: Made, rng: random.Random) -> Iterator[Case]:
    """What gzip's format allows and nobody needs."""
    content, archive = made.contents[IMAGES], made.archives[IMAGES]
    at = rng.randrange(1, len(content))
    empty = gzip.compress(b"", mtime=0)
    named = archive[:3] + b"\x08" + archive[4:10]
    strange = {
        "two archives": gzip.compress(content[:at]) + gzip.compress(content[at:]),
        "the archive twice": archive * 2,
        "an empty archive behind": archive + empty,
        "a hundred thousand empty archives before": empty * 100_000 + archive,
        "a hundred thousand empty archives behind": archive + empty * 100_000,
        "an archive in an archive": gzip.compress(archive),
        "garbage behind": archive + rng.randbytes(100),
        "zeros behind": archive + bytes(1 << 20),
        "a name without end": named + b"x" * (8 << 20),
        "unknown flags": archive[:3] + b"\xe0" + archive[4:],
        "an unknown method": archive[:2] + b"\x07" + archive[3:],
        "an empty archive": empty,
        "an archive of nothing but its header": archive[:10],
    }
    for what, file in strange.items():
        yield what, f"{IMAGES}.gz", file


def bombs(_: Made, rng: random.Random) -> Iterator[Case]:
    """A few megabytes that unpack to a thousand times as much."""
    for promised, zeros in (
        ((60_000, 256, 256), 4 << 30),
        ((1 << 20, 32, 32), 1 << 30),
        ((40, 6, 5), 1 << 30),
        ((60, 1000, 1000), 1 << 30),
        ((60, 1000, 1000), 1 << 20),
        ((rng.randrange(100, 4000), 1 << 10, 1 << 10), 4 << 30),
        ((2**32 - 1, 2**32 - 1, 2**32 - 1), 1 << 30),
    ):
        yield f"{zeros:,} zeros as {promised}", f"{IMAGES}.gz", bomb(header(8, *promised), zeros)
    for side in (1295, 1 << 11, 1 << 12, 1 << 13):  # the first is just what may be tried
        yield f"images of {side}×{side} that fit each other", f"{IMAGES}.gz", fitting_bombs(side)
    yield "1 GiB of zeros as labels", f"{LABELS}.gz", bomb(header(8, 1 << 30), 1 << 30)
    yield "1 GiB of zeros", f"{IMAGES}.gz", bomb(b"", 1 << 30)


def bomb(start: bytes, zeros: int) -> bytes:
    """A gzip stream of ``start`` and then so many zeros, of which one piece is packed but once."""
    piece = 1 << 20
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = deflate.compress(start) + deflate.flush(zlib.Z_FULL_FLUSH)
    again = deflate.compress(bytes(piece)) + deflate.flush(zlib.Z_FULL_FLUSH)
    last = deflate.flush(zlib.Z_FINISH)
    top = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    return top + first + again * (zeros // piece) + last + bytes(8)


def fitting_bombs(side: int) -> Callable[[Path], object]:
    """Training and test images that fit each other and the labels."""

    def make(path: Path) -> None:
        for name, count in ((IMAGES, 40), (NAMES[2], 20)):
            content = bomb(header(8, count, side, side), count * side * side)
            path.with_name(f"{name}.gz").write_bytes(content)

    return make


class Deletes:
    """What, unpickled, removes the file beside it."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.remove, ("canary",)


def other_formats(made: Made, rng: random.Random) -> Iterator[Case]:
    """Files of other kinds under the names of ours."""
    content = made.contents[IMAGES]
    zipped, tarred, array = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr(IMAGES, content)
    with tarfile.open(fileobj=tarred, mode="w:gz") as tar:
        member = tarfile.TarInfo(f"../{IMAGES}")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    np.save(array, np.array([Deletes()], dtype=object), allow_pickle=True)
    formats = {
        "zip": zipped.getvalue(),
        "tar.gz": tarred.getvalue(),
        "npy": array.getvalue(),
        "bz2": bz2.compress(content),
        "xz": lzma.compress(content),
        "zlib": zlib.compress(content),
        "zstd": b"\x28\xb5\x2f\xfd" + rng.randbytes(100),
        "pickle": pickle.dumps(Deletes()),
        "old pickle": pickle.dumps(Deletes(), 0),
        "HTML": b"<!doctype html><title>Please log in</title>",
        "XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "JSON": json.dumps({"error": "not found"}).encode(),
        "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "PNG": b"\x89PNG\r\n\x1a\n" + rng.randbytes(100),
        "PDF": b"%PDF-1.7\n",
        "ELF": b"\x7fELF" + rng.randbytes(100),
        "script": b"#!/bin/sh\nrm -f canary\n",
        "UTF-16": "Hello".encode("utf-16"),
        "safetensors": struct.pack("<Q", 2**63) + b"{}",
    }
    for what, file in formats.items():
        yield what, IMAGES, file
        yield f"{what} called an archive", f"{IMAGES}.gz", file


def noise(made: Made, rng: random.Random) -> Iterator[Case]:
    """Random bytes, bare and behind what is right."""
    start = made.archives[IMAGES][:10] + b"\x07"  # of a kind of block that doesn't exist
    for _ in range(8):
        yield "noise", IMAGES, b"\xff" + rng.randbytes(rng.randrange(2000))
        rest = rng.randbytes(rng.randrange(2000))
        yield "noise behind gzip's header", f"{IMAGES}.gz", start + rest
    for count in (1, 7, 1 << 20):
        yield f"{count} bytes behind", IMAGES, made.contents[IMAGES] + rng.randbytes(count)
        yield f"{count} zeros", LABELS, bytes(count)


def misfits(made: Made, _: random.Random) -> Iterator[Case]:
    """Right in themselves, but not beside the other three."""
    yield "images as labels", LABELS, made.contents[IMAGES]
    yield "labels as images", IMAGES, made.contents[LABELS]
    yield "fewer labels", LABELS, header(8, 39) + bytes(39)
    yield "more images", IMAGES, header(8, 41, 6, 5) + bytes(41 * 30)
    yield "images of another shape", IMAGES, header(8, 40, 5, 6) + bytes(1200)
    yield "labels out of range", NAMES[3], header(8, 20) + bytes(19) + b"\xff"


def no_files(_: Made, __: random.Random) -> Iterator[Case]:
    """What isn't a plain file, can't be read, or is a plain file of an absurd size."""
    odd: dict[str, Callable[[Path], object]] = {
        "FIFO": os.mkfifo,
        "folder": Path.mkdir,
        "socket": listen,
        "link to itself": lambda path: path.symlink_to(path.name),
        "link to nothing": link("nothing"),
        "link to a folder": link("."),
        "endless zeros": link("/dev/zero"),
        "endless noise": link("/dev/urandom"),
        "terminal": link("/dev/tty"),
        "environment": link("/proc/self/environ"),
        "memory": link("/proc/self/mem"),
        "holes": sparse(1 << 40),
        "holes behind a header": sparse(1 << 40, header(8, 40, 6, 5)),
        "5 GiB of holes": sparse(16 + (5 << 30), header(8, 5, 1 << 15, 1 << 15)),
        "3 GiB of holes": sparse(16 + (3 << 30), header(8, 3, 1 << 15, 1 << 15)),
        "almost 3 GiB of holes": sparse(3 << 30, header(8, 3, 1 << 15, 1 << 15)),
    }
    if os.geteuid():
        odd["unreadable"] = lambda path: (path.touch(), path.chmod(0))
    for (what, make), end in itertools.product(odd.items(), ("", ".gz")):
        yield what, f"{IMAGES}{end}", make


def link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def listen(path: Path) -> None:
    """Make a socket; a file of that name stays when it is closed."""
    here = Path.cwd()
    os.chdir(path.parent)  # the names of sockets must be short
    try:
        with socket.socket(socket.AF_UNIX) as taken:
            taken.bind(path.name)
    finally:
        os.chdir(here)


def sparse(size: int, start: bytes = b"") -> Callable[[Path], object]:
    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.write(start)
            file.truncate(size)

    return make


def put(made: Made, folder: Path, name: str, file: Hostile) -> Path:
    """A folder with that file, the three others as they should be, and a canary."""
    made.put(folder, gz=False)
    (folder / "canary").write_text("alive")
    (folder / name.removesuffix(".gz")).unlink()
    if isinstance(file, bytes):
        (folder / name).write_bytes(file)
    else:
        file(folder / name)
    return folder
