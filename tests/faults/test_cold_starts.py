"""Eight processes start at once with one empty cache: each ends with the right data, and nobody
ever sees half a file, whether file locks work or not.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.datasets import made as making
from tests.datasets.made import Made
from tests.datasets.mirror import Mirror, serving

from .starting import Starter, digests, leftovers, wrong

PROCESSES = 8
ROUNDS = [pytest.param(n, marks=pytest.mark.faults if n else ()) for n in range(20)]


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with Starter() as starter:
        yield starter


@pytest.fixture
def server() -> Iterator[Mirror]:
    """A slow mirror: it takes a quarter of a second to send a process everything."""
    with serving(making.make(train=400, test=200, shape=(28, 28)).archives) as server:
        server.piece, server.pause = 1 << 14, 0.01
        yield server


@pytest.fixture
def made(server: Mirror) -> Made:
    return making.make("made", train=400, test=200, shape=(28, 28), mirrors=(f"{server.url}/good",))


class Watcher(threading.Thread):
    """Looks into the cache all the while; ``partial`` lists files seen that weren't whole."""

    def __init__(self, made: Made, cache: Path) -> None:
        super().__init__()
        self.whole = {cache / "made" / f"{n}.gz": archive for n, archive in made.archives.items()}
        for file in made.entry.files:
            self.whole[cache / "unpacked" / file.sha256] = made.contents[file.name]
        self.over = threading.Event()
        self.looks = 0
        self.partial: list[Path] = []

    def run(self) -> None:
        while not self.over.wait(0.003):
            self.looks += 1
            for path, content in self.whole.items():
                if path.exists() and path.read_bytes() != content:
                    self.partial.append(path)


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
@pytest.mark.parametrize("number", ROUNDS)
def test_all_end_with_the_right_data(
    number: int, locks: bool, starter: Starter, made: Made, server: Mirror, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    watcher = Watcher(made, cache)
    watcher.start()
    found = starter.found(made, cache, PROCESSES, locks=locks)
    watcher.over.set()
    watcher.join()
    assert [each["digests"] for each in found] == [digests(made)] * PROCESSES
    assert [each["notes"] for each in found] == [[]] * PROCESSES
    assert len(server.asked) > 4, "they didn't start together"
    assert watcher.looks > 5
    assert watcher.partial == []
    assert wrong(made, cache) == []
    assert leftovers(cache) == []


def test_the_watcher_sees_half_a_file(made: Made, tmp_path: Path) -> None:
    """Otherwise the test above would prove nothing."""
    made.put(tmp_path / "made")
    half = tmp_path / "made" / "train-images-idx3-ubyte.gz"
    half.write_bytes(half.read_bytes()[:-1])
    watcher = Watcher(made, tmp_path)
    watcher.start()
    while not watcher.looks:
        watcher.over.wait(0.01)
    watcher.over.set()
    watcher.join()
    assert set(watcher.partial) == {half}
