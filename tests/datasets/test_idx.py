import contextlib
import gzip
import hashlib
import io
import os
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fivebyfive.datasets import idx
from fivebyfive.lib.errors import DataError, DataNotFoundError

from .made import encode


def images(n=3, height=4, width=5):
    return np.random.default_rng(0).integers(0, 256, (n, height, width))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5)])
def test_reads_what_was_written(tmp_path, pack, shape):
    values = np.arange(np.prod(shape)).reshape(shape)
    path = tmp_path / "no-telling-name"
    path.write_bytes(pack(encode(values)))
    content = idx.read(path, "images")
    np.testing.assert_array_equal(content.values, values)
    assert content.values.flags.writeable
    assert "array(" not in repr(content)
    assert content.sha256 == hashlib.sha256(encode(values)).hexdigest()


def test_reads_more_than_one_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "_CHUNK", 7)
    path = tmp_path / "f"
    path.write_bytes(gzip.compress(encode(images())))
    np.testing.assert_array_equal(idx.read(path, "images").values, images())


def header(kind, rank, *sizes):
    return bytes((0, 0, kind, rank)) + struct.pack(f">{len(sizes)}I", *sizes)


GOOD = header(8, 3, 2, 2, 2) + bytes(8)
WRONG = {
    "empty": (b"", "empty; expected an IDX file of images"),
    "short": (b"\0\0", "expected 0x00000803 or 0x00000804"),
    "a web page": (b"<!doctype html>", "a web page?"),
    "another magic": (b"PK\3\4" + bytes(50), "starts with 0x504b0304"),
    "floats": (header(13, 3, 1, 1, 1) + bytes(4), "holds float32 values; expected uint8"),
    "labels": (header(8, 1, 3) + bytes(3), "a file of labels: are two files swapped"),
    "two dimensions": (header(8, 2, 3, 3) + bytes(9), "something else"),
    "half a header": (header(8, 3, 2, 2), "truncated inside its header"),
    "no images": (header(8, 3, 0, 2, 2), "0×2×2 = 0 bytes; expected at least one"),
    "truncated": (GOOD[:-1], "promises 2×2×2 = 8 bytes, but the whole file has 23"),
    "too long": (GOOD + b"\0", "left over after the 2×2×2 = 8"),
    "absurd": (header(8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(99), "but the whole file has"),
    "absurd, gzipped": (
        gzip.compress(header(8, 3, 60000, 9999, 9999)),
        "out of proportion .* gunzip train",
    ),
    "truncated, gzipped": (gzip.compress(GOOD[:-1]), "truncated: .* found 7"),
    "too long, gzipped": (gzip.compress(GOOD + b"\0"), "left over"),
    "truncated gzip": (gzip.compress(GOOD)[:-9], "gzip stream is truncated"),
    "corrupt gzip": (
        gzip.compress(GOOD)[:-8] + b"\1\2\3\4" + bytes(4),
        "corrupt .*incorrect data check",
    ),
    "corrupt deflate": (gzip.compress(GOOD)[:10] + b"\xff" * 40, "gzip stream is corrupt"),
    "garbage after gzip": (gzip.compress(GOOD) + b"garbage", "bytes follow after the end"),
    "two archives": (gzip.compress(GOOD[:20]) + gzip.compress(GOOD[20:]), "found 4|follow after"),
    "an empty archive more": (gzip.compress(GOOD) + gzip.compress(b""), "bytes follow after"),
}


@pytest.mark.parametrize("case", WRONG)
def test_each_wrong_file_is_told(tmp_path, case):
    content, message = WRONG[case]
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        idx.read(path, "images")
    assert str(path) in str(error.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
def test_nothing_larger_than_expected_is_read(tmp_path, pack):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(pack(GOOD))
    assert idx.read(path, "images", len(GOOD)).values.shape == (2, 2, 2)
    for reader in (idx.read, idx.shape):
        with pytest.raises(DataError, match=r"promises 2×2×2 = 8 bytes; expected no more than 23"):
            reader(path, "images", len(GOOD) - 1)


def test_what_is_larger_than_any_dataset_isnt_read(tmp_path):
    path = tmp_path / "f"
    with path.open("wb") as file:
        file.write(header(8, 3, 5, 1 << 15, 1 << 15))
        file.truncate(16 + (5 << 30))
    with pytest.raises(DataError, match="expected no more than 4,294,967,296"):
        idx.read(path, "images")


@pytest.mark.parametrize(
    ("ratio", "outcome"),
    [
        (40, contextlib.nullcontext()),
        (60, pytest.raises(DataError, match="out of proportion to an archive of 2,")),
    ],
)
def test_archives_may_hold_what_is_in_proportion(ratio, outcome, monkeypatch):
    monkeypatch.setattr(idx, "_HARMLESS", 0)
    size = 2000 * ratio
    noise = np.random.default_rng(0).bytes(2000)
    archive = gzip.compress(header(8, 1, size) + noise + bytes(size - 2000))
    assert 2000 < len(archive) < 2400
    with outcome:
        idx.parse(io.BytesIO(archive), len(archive), "labels", Path("f"))


def test_shape_reads_no_more_than_the_header(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(gzip.compress(encode(images()))[:-30])
    assert idx.shape(path, "images") == (3, 4, 5)


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), (2, 3, 4, 5)])
def test_what_is_written_is_read(tmp_path, shape):
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    idx.write(tmp_path / "f", values)
    assert (tmp_path / "f").read_bytes() == encode(values)
    # Whatever its layout in memory.
    idx.write(tmp_path / "f", values.T)
    assert (tmp_path / "f").read_bytes() == encode(values.T)


def test_too_little_memory_is_told(tmp_path, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(DataError, match="isn't memory enough for 2×2×2 = 8 bytes"):
        idx.parse(io.BytesIO(GOOD), len(GOOD), "images", Path("f"))


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    with pytest.raises(DataNotFoundError, match="no such file"):
        idx.read(tmp_path / "none", "images")
    with pytest.raises(DataError, match="not a file"):
        idx.read(tmp_path, "images")


def test_an_unreadable_file_is_told(tmp_path, monkeypatch):
    path = tmp_path / "labels"
    path.write_bytes(header(8, 1, 1) + b"\0")

    def refuse(*_):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(DataError, match="can't be read: Permission denied"):
        idx.read(path, "labels")


def test_a_bomb_takes_only_the_memory_its_bytes_deserve():
    """The header promises 60 MB and 2 MB come: no more than that is ever held."""
    bomb = gzip.compress(header(8, 3, 60, 1000, 1000) + bytes(2_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="truncated"):
        idx.parse(io.BytesIO(bomb), len(bomb), "images", Path("bomb"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_damage_gets_through(data):
    """Any truncation or change of one byte of a gzipped file is an error or changes nothing."""
    archive = bytearray(gzip.compress(GOOD, mtime=0))
    at = data.draw(st.integers(0, len(archive) - 1))
    if data.draw(st.booleans()):
        del archive[at:]
    else:
        archive[at] ^= data.draw(st.integers(1, 255))
    try:
        content = idx.parse(io.BytesIO(archive), len(archive), "images", Path("f"))
    except DataError:
        return
    assert content.values.tobytes() == bytes(8)
