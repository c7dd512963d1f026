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
from fivebyfive.errors import DataError, DataNotFoundError


def images(n=3, height=4, width=5):
    return np.random.default_rng(0).integers(0, 256, (n, height, width))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5)])
def test_reads_what_was_written(tmp_path, encode, pack, shape):
    values = np.arange(np.prod(shape)).reshape(shape)
    path = tmp_path / "no-telling-name"
    path.write_bytes(pack(encode(values)))
    content = idx.read(path, "images")
    np.testing.assert_array_equal(content.values, values)
    assert content.values.flags.writeable
    assert content.sha256 == hashlib.sha256(encode(values)).hexdigest()


def test_reads_more_than_one_chunk(tmp_path, encode, monkeypatch):
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
    "no images": (header(8, 3, 0, 2, 2), "0×2×2; expected at least one"),
    "truncated": (GOOD[:-1], r"promises 2×2×2 = 8 bytes"),
    "too long": (GOOD + b"\0", "left over after the 2×2×2 = 8"),
    "absurd": (header(8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(99), "can't hold more than"),
    "absurd, gzipped": (gzip.compress(header(8, 3, 60000, 9999, 9999)), "can't hold more than"),
    "truncated, gzipped": (gzip.compress(GOOD[:-1]), "truncated: .* found 7"),
    "too long, gzipped": (gzip.compress(GOOD + b"\0"), "left over"),
    "truncated gzip": (gzip.compress(GOOD)[:-9], "gzip stream is truncated"),
    "corrupt gzip": (gzip.compress(GOOD)[:-8] + b"\1\2\3\4" + bytes(4), "corrupt .*CRC"),
    "corrupt deflate": (gzip.compress(GOOD)[:10] + b"\xff" * 40, "gzip stream is corrupt"),
    "garbage after gzip": (gzip.compress(GOOD) + b"garbage", "gzip stream is corrupt"),
}


@pytest.mark.parametrize("case", WRONG)
def test_each_wrong_file_is_told(tmp_path, case):
    content, message = WRONG[case]
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        idx.read(path, "images")
    assert str(path) in str(error.value)


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
    """The header promises 900 MB and 2 MB come: no more than that is ever held."""
    bomb = gzip.compress(header(8, 3, 900, 1000, 1000) + bytes(2_000_000)) + bytes(900_000)
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
