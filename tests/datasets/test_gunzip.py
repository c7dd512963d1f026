import gzip
import io
import itertools
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivebyfive.datasets.gunzip import Gunzip
from fivebyfive.lib.errors import DataError

NOISE = np.random.default_rng(0).bytes(300_000)


def unpack(archive: bytes) -> bytes:
    return io.BufferedReader(Gunzip(io.BytesIO(archive), Path("f"))).read()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 9), st.integers(0, 300_000), st.integers(0, 100_000))
def test_unpacks_what_gzip_packs(level, noise, zeros):
    content = NOISE[:noise] + bytes(zeros)
    assert unpack(gzip.compress(content, level)) == content


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=4))
def test_reads_of_any_size_give_the_same(sizes):
    content = NOISE[:1000] + bytes(100) + NOISE[:1000]
    source = Gunzip(io.BytesIO(gzip.compress(content)), Path("f"))
    got = bytearray()
    for size in itertools.cycle(sizes):
        part = source.read(size)
        if not part:
            break
        got += part
    assert got == content


def test_a_header_with_everything_in_it():
    plain = gzip.compress(b"content", mtime=0)
    extra, name, comment = b"\3\0abc", b"name\0", b"comment\0"
    start = plain[:3] + bytes((4 | 8 | 16 | 2,)) + plain[4:10] + extra + name + comment
    sum_ = (zlib.crc32(start) & 0xFFFF).to_bytes(2, "little")
    assert unpack(start + sum_ + plain[10:]) == b"content"
    with pytest.raises(DataError, match="corrupt"):
        unpack(start + bytes(2) + plain[10:])


@pytest.mark.parametrize("rest", [b"\0", b"garbage", gzip.compress(b""), gzip.compress(b"more")])
def test_nothing_may_follow(rest):
    with pytest.raises(DataError, match="f: bytes follow after the end of the gzip stream"):
        unpack(gzip.compress(NOISE) + rest)


@pytest.mark.parametrize("at", [2, 10, 1000, -8, -1])
def test_a_truncated_stream_is_told(at):
    with pytest.raises(DataError, match="f: the gzip stream is truncated"):
        unpack(gzip.compress(NOISE)[:at])


@pytest.mark.parametrize("at", [2, 3, 1000, -8, -4])
def test_a_corrupt_stream_is_told(at):
    archive = bytearray(gzip.compress(NOISE))
    archive[at] ^= 0xE0
    with pytest.raises(DataError, match="f: the gzip stream is corrupt"):
        unpack(bytes(archive))


def test_a_million_archives_and_a_long_name_take_no_time():
    """Python's gzip module takes 7 s over each of these."""
    plain = gzip.compress(b"content", mtime=0)
    start = time.process_time()
    with pytest.raises(DataError, match="follow after"):
        unpack(gzip.compress(b"", mtime=0) * 1_000_000)
    named = plain[:3] + b"\x08" + plain[4:10] + b"x" * 20_000_000 + b"\0" + plain[10:]
    assert unpack(named) == b"content"
    assert time.process_time() - start < 2
