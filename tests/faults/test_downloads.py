"""A process is killed while it downloads or unpacks, or a byte of the cache changes: the next start
has the right data all the same, and leaves a cache that is whole again.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.datasets import made as making
from tests.datasets.made import Made
from tests.datasets.mirror import Mirror, serving

from fivebyfive.datasets import catalog, locate, search
from fivebyfive.lib.errors import DataNotFoundError

from .starting import ARCHIVES, Starter, digests, leftovers, wrong

TRAIN_IMAGES = "train-images-idx3-ubyte"


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with Starter() as starter:
        yield starter


@pytest.fixture
def server() -> Iterator[Mirror]:
    with serving(making.make(train=400, test=200, shape=(28, 28)).archives) as server:
        server.piece = 1 << 10
        yield server


@pytest.fixture
def made(server: Mirror, monkeypatch: pytest.MonkeyPatch) -> Made:
    """314 kB of training images, 157 kB of test images, and half of that as archives."""
    mirrors = (f"{server.url}/good",)
    made = making.make("made", train=400, test=200, shape=(28, 28), mirrors=mirrors)
    monkeypatch.setitem(catalog.CATALOG, "made", made.entry)
    for name in ("FIVEBYFIVE_DATA", "FIVEBYFIVE_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setenv("FIVEBYFIVE_CACHE", str(cache))
    return cache


def points(count: int, quick: int) -> list[object]:
    """Numbers 0 to ``count`` - 1, of which ``quick`` belong to every run of the tests."""
    every = count // quick
    return [
        pytest.param(
            n, marks=() if n % every == every // 2 and n // every < quick else pytest.mark.faults
        )
        for n in range(count)
    ]


def check_repaired(starter: Starter, made: Made, cache: Path) -> None:
    """By the next start; and what lies about is gone with the first one an hour later."""
    assert starter.found(made, cache)[0]["digests"] == digests(made)
    assert wrong(made, cache) == []
    for path in leftovers(cache):
        os.utime(path, (0, time.time() - locate.IDLE - 60))
    assert starter.found(made, cache)[0]["digests"] == digests(made)
    assert leftovers(cache) == []


@pytest.mark.parametrize("point", points(20, 3))
def test_killed_when_some_bytes_have_come(
    point: int, starter: Starter, made: Made, server: Mirror, cache: Path
) -> None:
    server.hold = sum(map(len, made.archives.values())) * point // 20
    starter.begin(made, cache)
    assert server.held.wait(60)
    os.kill(int(Path(f"{cache}.pid").read_text()), signal.SIGKILL)
    assert starter.ended()[0]["status"] == -signal.SIGKILL
    server.hold = None
    server.over.set()
    # What was whole before is kept; what was not is no file at all.
    assert {path.name for path in (cache / "made").iterdir()} < set(ARCHIVES)
    check_repaired(starter, made, cache)


@pytest.mark.parametrize("point", points(20, 3))
def test_killed_before_an_operation_on_a_file(
    point: int, starter: Starter, made: Made, cache: Path, tmp_path: Path
) -> None:
    operations = starter.found(made, tmp_path / "other")[0]["operations"]
    assert operations >= 50
    at = 1 + point * (operations - 1) // 19
    assert starter.status(made, cache, kill_at=at) == -signal.SIGKILL
    check_repaired(starter, made, cache)


@pytest.mark.parametrize("point", points(6, 1))
def test_killed_in_the_middle_of_writing_an_archive(
    point: int, starter: Starter, made: Made, cache: Path
) -> None:
    size = 1 + point * (len(made.archives[TRAIN_IMAGES]) - 2) // 5
    assert starter.status(made, cache, full_at=size) == -signal.SIGXFSZ
    assert [path.stat().st_size for path in leftovers(cache)] == [size]
    check_repaired(starter, made, cache)


@pytest.mark.parametrize("point", points(6, 1))
def test_killed_in_the_middle_of_unpacking(
    point: int, starter: Starter, made: Made, cache: Path
) -> None:
    made.put(cache / "made")
    size = 1 + point * (len(made.contents[TRAIN_IMAGES]) - 2) // 5
    assert starter.status(made, cache, full_at=size) == -signal.SIGXFSZ
    assert [path.stat().st_size for path in leftovers(cache)] == [size]
    check_repaired(starter, made, cache)


@pytest.mark.parametrize("unseen", [False, True], ids=["seen", "unseen"])
@pytest.mark.parametrize("seed", points(60, 1))
def test_one_byte_of_the_cache_changes(seed: int, unseen: bool, made: Made, cache: Path) -> None:
    """In each file in turn; ``unseen`` is how disks do it, with size, time and inode as before."""
    search.named(made.entry)
    cached = sorted(path for path in cache.rglob("*") if path.is_file())
    assert len(cached) == 9
    for path in cached:
        content = bytearray(path.read_bytes())
        rng = random.Random(f"{seed} {path.name}")
        at, bits = rng.randrange(len(content)), rng.randrange(1, 256)
        content[at] ^= bits
        status = path.stat()
        path.write_bytes(content)
        if unseen:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        what = f"seed {seed}: {path.name}, byte {at} changed by {bits:#x}"
        found = search.named(made.entry)
        assert found.arrays.digests == digests(made), what
        assert found.notes == (), what
        # For an archive that nothing shows to have changed, data come from its copy; the damage
        # is found when it is read itself, at the latest by --verify.
        if not unseen or path.name not in ARCHIVES:
            assert wrong(made, cache) == [], what
        search.named(made.entry, verify=True)
        assert wrong(made, cache) == [], what


@pytest.mark.parametrize("archive", ARCHIVES)
def test_a_full_disk_is_told_and_leaves_nothing(
    archive: str, made: Made, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if archive not in path.name:
            return write(path, content)
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    need = sum(file.size for file in made.entry.files)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(DataNotFoundError) as error:
            search.named(made.entry)
    assert f"{cache / 'made'} can't be written: No space left on device" in str(error.value)
    assert f"up to {need:,} bytes are needed" in str(error.value)
    assert leftovers(cache) == []
    assert search.named(made.entry).arrays.digests == digests(made)
