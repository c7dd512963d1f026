"""When the training waits for what is written beside it."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fivebyfive.runs import checkpoints, folder
from fivebyfive.runs.checkpointer import BEGIN, RunCheckpointer
from fivebyfive.runs.log import MetricsLog
from fivebyfive.training.progress import Progress
from fivebyfive.training.session import Session

EVERY = 100.0


class Slow:
    """Writing that takes until it is let go on, and a clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self._go_on = 0.0, threading.Event()
        write = checkpoints.write

        def slowly(*arguments: object) -> None:
            assert self._go_on.wait(30)
            write(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(checkpoints, "write", slowly)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def waits(self, call: Callable[[], None]) -> bool:
        """Whether ``call`` comes back only once the writing may go on."""
        thread = threading.Thread(target=call)
        thread.start()
        thread.join(0.3)
        waited = thread.is_alive()
        if waited:
            self._go_on.set()
            thread.join()
            self._go_on.clear()
        return waited


@pytest.fixture
def checkpointer(session: Session, tmp_path: Path) -> Iterator[Callable[[float], RunCheckpointer]]:
    log = MetricsLog(tmp_path / folder.METRICS)
    yield functools.partial(RunCheckpointer, tmp_path, session, log)
    log.close()


def test_it_waits_before_an_interval_could_be_lost(
    checkpointer: Callable[[float], RunCheckpointer],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    slow = Slow(monkeypatch)
    kept = checkpointer(EVERY)

    def keep() -> None:
        kept.keep(Progress())

    slow.now = BEGIN * EVERY - 1
    assert not slow.waits(keep)
    assert checkpoints.numbers(tmp_path) == []
    slow.now = BEGIN * EVERY  # a save begins
    assert not slow.waits(keep)
    slow.now = EVERY - 1
    assert not slow.waits(keep)
    slow.now = EVERY
    assert slow.waits(keep)
    assert checkpoints.numbers(tmp_path) == [1]
    slow.now = 2 * BEGIN * EVERY  # the next, an interval after what the first one saved
    assert not slow.waits(keep)
    slow.now = (1 + BEGIN) * EVERY - 1
    assert not slow.waits(keep)
    slow.now = (1 + BEGIN) * EVERY
    assert slow.waits(keep)
    assert checkpoints.numbers(tmp_path) == [1, 2]


def test_an_epochs_end_waits_as_little(
    checkpointer: Callable[[float], RunCheckpointer], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch)
    kept = checkpointer(EVERY)
    assert not slow.waits(lambda: kept.save_now(Progress()))
    assert slow.waits(lambda: kept.save_now(Progress(), wait=True))


def test_every_0_waits_each_time(
    checkpointer: Callable[[float], RunCheckpointer], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch)
    kept = checkpointer(0)
    for _ in range(3):
        slow.now += 1
        assert slow.waits(lambda: kept.keep(Progress()))
