from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import torch

from fivebyfive.engines import process_group as teams
from fivebyfive.engines.process_group import SINGLE_PROCESS, ProcessGroup, init_process_group
from fivebyfive.lib.errors import DeviceError, ProcessGroupError, RankGoneError


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Who tells of an end ignores SIGTERM from then on; this process goes on."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


class Canned(ProcessGroup):
    """One of two processes, the other of which says what it is told to."""

    def __init__(self, rank: int, *others: dict[str, Any]) -> None:
        super().__init__(rank, 2, rank)
        self.others = list(others)
        self.said: list[Any] = []

    def _gather(self, message: Any) -> list[dict[str, Any]]:
        self.said.append(message)
        both = [dict(message), self.others.pop(0)]
        return both if self.is_main else both[::-1]

    def quit(self, status: int) -> NoReturn:
        raise SystemExit(status)


def test_a_process_alone_speaks_with_itself() -> None:
    assert SINGLE_PROCESS.is_main
    assert SINGLE_PROCESS.exchange({"a": 1}) == [{"a": 1}]
    assert SINGLE_PROCESS.share({"w": (w := torch.ones(2))})["w"] is w
    SINGLE_PROCESS.check_same({"the version": 1})
    with SINGLE_PROCESS.in_turn():
        pass
    with pytest.raises(DeviceError, match="none"), SINGLE_PROCESS.reporting():
        raise DeviceError("none")


def test_what_is_exchanged_comes_in_the_order_of_the_ranks() -> None:
    assert Canned(0, {"value": "b"}).exchange("a") == ["a", "b"]
    assert Canned(1, {"value": "b"}).exchange("a") == ["b", "a"]


def test_the_leader_tells_what_another_failed_at() -> None:
    failure = {"failure": ["process 1 of 2, on there: no such file", 2]}
    with pytest.raises(ProcessGroupError, match="process 1 of 2, on there: no such file") as caught:
        Canned(0, failure).exchange(None)
    assert caught.value.status == 2
    with pytest.raises(SystemExit) as ended:
        Canned(1, {"failure": ["anything", 7]}).exchange(None)
    assert ended.value.code == 7


def test_who_fails_says_so_in_place_of_its_next_value() -> None:
    leader = Canned(0, {"value": 1})
    with pytest.raises(DeviceError, match="no card"), leader.reporting():
        raise DeviceError("no card")
    (said,) = leader.said
    assert said["failure"][1] == 2
    assert said["failure"][0].startswith("process 0 of 2, on ")
    follower = Canned(1, {"value": 1})
    with pytest.raises(SystemExit) as ended, follower.reporting():
        raise OSError("broken disk")
    assert ended.value.code == 1
    assert "broken disk" in follower.said[0]["failure"][0]


def test_what_all_know_is_not_reported_again() -> None:
    leader = Canned(0, {"failure": ["lost", 2]})
    with pytest.raises(ProcessGroupError, match="lost"), leader.reporting():
        leader.exchange(1)
    assert leader.said == [{"value": 1}]


def test_a_difference_is_named() -> None:
    theirs = {"value": {"the version": "1", "the setting lr": 0.5}}
    with pytest.raises(
        ProcessGroupError, match=r"the setting lr is 0\.9 in process 0 and 0\.5 in process 1"
    ):
        Canned(0, theirs).check_same({"the version": "1", "the setting lr": 0.9})


@pytest.mark.parametrize("text", ["[../gloo/pair.cc:5] Connection reset", "NCCL communicator gone"])
def test_a_broken_connection_is_told_by_the_leader_alone(text: str) -> None:
    with pytest.raises(RankGoneError, match="process 1 has ended"), ProcessGroup(0, 2).noticing():
        raise RuntimeError(text)
    with (
        pytest.raises(RankGoneError, match="one of the processes 1 to 3"),
        ProcessGroup(0, 4).noticing(),
    ):
        raise RuntimeError(text)
    with pytest.raises(SystemExit) as ended, Canned(1).noticing():
        raise RuntimeError(text)
    assert ended.value.code == RankGoneError.status == 1


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match="shapes"), ProcessGroup(0, 2).noticing():
        raise RuntimeError("shapes don't fit")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that hasn't asked yet and wasn't started by torchrun."""
    for name in teams._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    init_process_group.cache_clear()
    yield
    init_process_group.cache_clear()


def test_a_process_is_alone_unless_it_is_told_otherwise(
    fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert init_process_group() is SINGLE_PROCESS
    init_process_group.cache_clear()
    given = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert init_process_group() is SINGLE_PROCESS


def test_what_it_is_told_must_make_sense(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"RANK": "one", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ProcessGroupError, match=r"can't be brought together .RANK=one"):
        init_process_group()


def test_a_pytorch_without_gloo_is_told(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in teams._VARIABLES:
        monkeypatch.setenv(name, "2")
    monkeypatch.setattr(teams.dist, "is_available", lambda: False)
    with pytest.raises(ProcessGroupError, match=r"no torch\.distributed"):
        init_process_group()
