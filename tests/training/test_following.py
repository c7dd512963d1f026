from __future__ import annotations

import signal
from typing import Any, NoReturn

import pytest
import torch

from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.interface import Epoch, Metrics, Notice, Times
from fivebyfive.engines.process_group import ProcessGroup
from fivebyfive.lib.errors import Interrupted
from fivebyfive.recipes import Recipe
from fivebyfive.training.broadcast import Broadcast
from fivebyfive.training.control import Control
from fivebyfive.training.loop import Loop, NoCheckpointer


class Second(ProcessGroup):
    """The second of two processes; the first says what it is told to."""

    def __init__(self, *said: Any) -> None:
        super().__init__(1, 2, 1)
        self.said = list(said)

    def exchange(self, value: Any) -> list[Any]:
        return [self.said.pop(0), value]

    def quit(self, status: int) -> NoReturn:
        raise SystemExit(status)


class Counting:
    """An engine that notes how many steps it is given at a time."""

    name = "counting"
    checks_steps = False

    def __init__(self) -> None:
        self.given: list[int] = []

    def train(self, epoch: Epoch, first: int, stop: int, tally: Metrics) -> tuple[Metrics, Times]:
        self.given.append(stop - first)
        return Metrics(1.0, 1, tally.count + len(epoch.order[first:stop])), Times()

    def set_lr(self, lr: float) -> None:
        raise AssertionError(lr)

    def evaluate(self, between: object = None) -> Metrics:  # noqa: ARG002
        return Metrics(1.0, 1, 20)

    def notices(self) -> list[Notice]:
        return []


def said(steps: int, asked: signal.Signals | None = None) -> list[Any]:
    """What the main process says: how many steps come next, and what it was asked for."""
    return [steps, asked is not None, asked, False, None]


def loop(data: Dataset, engine: Counting, processes: ProcessGroup, control: Control) -> Loop:
    recipe = Recipe(name="r", network="n", batch_size=1, epochs=1)
    parts = (engine, recipe, data, torch.device("cpu"), Broadcast([]), NoCheckpointer(), control)
    return Loop(*parts, processes=processes)  # type: ignore[arg-type]


def test_the_leader_says_how_many_steps_come_next(tiny: Dataset) -> None:
    engine = Counting()
    processes = Second(said(3), said(12), said(4), said(7), said(1, signal.SIGINT))
    with pytest.raises(Interrupted, match="stopped at epoch 1, after step 23") as caught:
        loop(tiny, engine, processes, Control()).run(None)  # type: ignore[arg-type]
    assert engine.given == [3, 9, 4, 7]  # a mark is every twelfth of 60
    assert caught.value.signal is signal.SIGINT


def test_a_wish_of_this_process_stops_it_too(tiny: Dataset) -> None:
    control = Control()
    control.stop_by_signal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped at the start"):
        loop(tiny, Counting(), Second(said(1)), control).run(None)  # type: ignore[arg-type]


def test_a_wish_in_a_test_waits_till_all_can_stop(tiny: Dataset) -> None:
    """One process that left a test would leave the others waiting for its sums."""
    control = Control()
    control.stop()
    processes = Second([60, False, None, False, None], [1, False, None, False, None])
    running = loop(tiny, Counting(), processes, control)
    running._stop_if_asked()
    assert control.stopped
