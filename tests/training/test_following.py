from __future__ import annotations

import signal
from typing import Any, NoReturn

import pytest
import torch

from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.interface import Epoch, Metrics, Notice, Times
from fivebyfive.engines.process_group import ProcessGroup
from fivebyfive.lib.errors import DivergedError, OutOfMemoryError
from fivebyfive.recipes import Recipe
from fivebyfive.training.broadcast import Broadcast
from fivebyfive.training.following import NoCheckpointer, follow
from fivebyfive.training.loop import Loop
from fivebyfive.training.signals import Interrupted, Stop


class Second(ProcessGroup):
    """The second of two processes; the first says what it is told to."""

    def __init__(self, *said: Any) -> None:
        super().__init__(1, 2, 1)
        self.said = list(said)

    def exchange(self, value: Any) -> list[Any]:
        return [self.said.pop(0), value]

    def quit(self, status: int) -> NoReturn:
        raise SystemExit(status)


class Session:
    """Only runs, and fails."""

    processes = Second()

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def started(self, _: None) -> None:
        return None

    def run(self, *_: object) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status"),
    [(Interrupted(signal.SIGTERM, "stopped"), 143), (DivergedError(0.1, float("nan"), "there"), 1)],
)
def test_an_end_that_all_know_of_is_left_to_the_leader_to_tell(
    error: BaseException, status: int
) -> None:
    with pytest.raises(SystemExit) as ended:
        follow(Session(error))  # type: ignore[arg-type]
    assert ended.value.code == status


def test_what_only_this_process_knows_it_tells_itself() -> None:
    with pytest.raises(OutOfMemoryError, match="full"):
        follow(Session(OutOfMemoryError("full")))  # type: ignore[arg-type]


class Counting:
    """An engine that notes how many steps it is given at a time."""

    name = "counting"
    checks_steps = False

    def __init__(self) -> None:
        self.given: list[int] = []

    def train(self, epoch: Epoch, first: int, stop: int, tally: Metrics) -> tuple[Metrics, Times]:
        self.given.append(stop - first)
        return Metrics(1.0, 1, tally.count + len(epoch.order[first:stop])), Times()

    def evaluate(self) -> Metrics:
        return Metrics(1.0, 1, 20)

    def notices(self) -> list[Notice]:
        return []


def loop(data: Dataset, engine: Counting, processes: ProcessGroup, stop: Stop) -> Loop:
    recipe = Recipe(name="r", network="n", batch_size=1, epochs=1)
    parts = (engine, recipe, data, torch.device("cpu"), Broadcast([]), NoCheckpointer(), stop)
    return Loop(*parts, processes=processes)  # type: ignore[arg-type]


def test_the_leader_says_how_many_steps_come_next(tiny: Dataset) -> None:
    engine = Counting()
    processes = Second([3, None], [12, None], [4, None], [7, None], [1, int(signal.SIGINT)])
    with pytest.raises(Interrupted, match="stopped at epoch 1, after step 23") as caught:
        loop(tiny, engine, processes, Stop()).run(None)  # type: ignore[arg-type]
    assert engine.given == [3, 9, 4, 7]  # a mark is every twelfth of 60
    assert caught.value.signal is signal.SIGINT


def test_a_wish_of_this_process_stops_it_too(tiny: Dataset) -> None:
    stop = Stop()
    stop.requested = signal.SIGTERM
    with pytest.raises(Interrupted, match="stopped at the start"):
        loop(tiny, Counting(), Second([1, None]), stop).run(None)  # type: ignore[arg-type]
