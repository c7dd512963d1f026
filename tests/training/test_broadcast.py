from __future__ import annotations

import pytest

from fivebyfive.training.broadcast import Broadcast
from fivebyfive.training.events import Event, Noticed

EVENT = Noticed("word", 1, "a message")


class Ear:
    def __init__(self, fails: bool = False, fails_to_close: bool = False) -> None:
        self.heard: list[Event] = []
        self.closed = 0
        self.fails, self.fails_to_close = fails, fails_to_close

    def on(self, event: Event) -> None:
        self.heard.append(event)
        if self.fails:
            raise ValueError("deaf")

    def close(self) -> None:
        self.closed += 1
        if self.fails_to_close:
            raise OSError("stuck")


def test_a_listener_that_fails_is_told_of_once_and_dropped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad, good = Ear(fails=True), Ear(fails_to_close=True)
    with Broadcast([bad, good]) as broadcast:
        broadcast.send(EVENT)
        broadcast.send(EVENT)
    assert len(bad.heard) == 1
    assert len(good.heard) == 2
    assert bad.closed == good.closed == 1
    told = capsys.readouterr().err
    assert told.count("the training goes on") == 2
    assert "ValueError: deaf" in told
    assert "OSError: stuck" in told


def test_all_are_closed_when_the_training_fails() -> None:
    ears = [Ear(), Ear()]
    with pytest.raises(RuntimeError, match="broken"), Broadcast(ears):
        raise RuntimeError("broken")
    assert [ear.closed for ear in ears] == [1, 1]
