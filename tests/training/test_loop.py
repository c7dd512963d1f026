from __future__ import annotations

import math
import signal
from collections.abc import Callable
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.interface import Epoch, Metrics, Notice, Times, nothing
from fivebyfive.lib.errors import DivergedError, Interrupted
from fivebyfive.recipes import Recipe
from fivebyfive.training.broadcast import Broadcast
from fivebyfive.training.control import Control
from fivebyfive.training.events import ChunkDone, EpochDone, Event, Finished, Noticed, Started
from fivebyfive.training.loop import Loop
from fivebyfive.training.progress import Progress
from fivebyfive.training.signals import Signals

CPU = torch.device("cpu")


class Fake:
    """An engine that only counts: every image has loss 1 and every other one is right."""

    name = "fake"
    checks_steps = True

    def __init__(self, loss: float = 1.0, tested: float = 1.0) -> None:
        self.network: nn.Module = nn.Identity()
        self.loss, self.tested = loss, tested
        self.seen: list[list[int]] = []
        self.told: list[Notice] = []
        self.lrs: list[float] = []

    def train(self, epoch: Epoch, first: int, stop: int, tally: Metrics) -> tuple[Metrics, Times]:
        if first == 0 or not self.seen:
            self.seen.append([])
        for step in range(first, stop):
            batch = epoch.batch(step).tolist()
            self.seen[-1] += batch
            count = len(batch)
            loss = tally.loss + self.loss * count
            tally = Metrics(loss, tally.correct + count // 2, tally.count + count)
        return tally, Times(0.001, 0.002)

    def set_lr(self, lr: float) -> None:
        self.lrs.append(lr)

    def evaluate(self, between: Callable[[], None] = nothing) -> Metrics:
        between()
        return Metrics(self.tested * 20, 5, 20)

    def notices(self) -> list[Notice]:
        told, self.told = self.told, []
        return told


class Shelf:
    """Keeps every position it is given, and those that had to be safe at once."""

    def __init__(self) -> None:
        self.kept: list[Progress] = []
        self.safe: list[Progress] = []

    def keep(self, progress: Progress) -> None:
        self.kept.append(progress)

    def save_now(self, progress: Progress, wait: bool = False) -> None:  # noqa: ARG002
        self.safe.append(progress)


class Ear:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.closed = 0

    def on(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1


def run(
    data: Dataset,
    engine: Fake,
    recipe: Recipe,
    shelf: Shelf | None = None,
    control: Control | None = None,
    progress: Progress | None = None,
    ear: Ear | None = None,
) -> list[Event]:
    ear = Ear() if ear is None else ear
    started = Started(
        recipe=recipe,
        run=None,
        device="cpu",
        device_title="a cpu",
        engine="fake",
        data=data.name,
        data_source="made up",
        notice=None,
        train_images=60,
        test_images=20,
        classes=data.classes,
        steps=4,
        parameters=0,
    )
    with Broadcast([ear]) as broadcast:
        parts = (engine, recipe, data, CPU, broadcast, shelf or Shelf(), control or Control())
        Loop(*parts, progress).run(started)
    assert ear.closed == 1
    return ear.events


def recipe(**changes: object) -> Recipe:
    return Recipe(name="r", network="n", epochs=2, batch_size=7).but(**changes)


def of(kind: type, events: list[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, kind)]


@given(batch_size=st.integers(1, 70), seed=st.integers(0, 100))
def test_every_image_once_an_epoch_and_the_marks_of_the_book(batch_size: int, seed: int) -> None:
    data = make_data()
    engine = Fake()
    events = run(data, engine, recipe(batch_size=batch_size, seed=seed))
    steps = math.ceil(60 / batch_size)
    every = max(1, steps // 5)
    assert [sorted(epoch) for epoch in engine.seen] == [list(range(60))] * 2
    for epoch in (1, 2):
        marks = [e.step for e in events if isinstance(e, ChunkDone) and e.epoch == epoch and e.mark]
        expected = [step for step in range(1, steps + 1) if step % every == 0 or step == steps]
        assert marks == expected
    again = Fake()
    run(data, again, recipe(batch_size=batch_size, seed=seed))
    assert again.seen == engine.seen


def make_data() -> Dataset:
    from fivebyfive.datasets.splits import Split

    split = Split(torch.zeros(60, 1, 2, 2, dtype=torch.uint8), torch.zeros(60, dtype=torch.long))
    return Dataset("zeros", split, split, ("a", "b"), "made up", {})


def test_the_events_of_a_run_in_their_order(tiny: Dataset) -> None:
    shelf = Shelf()
    events = run(tiny, Fake(), recipe(), shelf)
    kinds = [type(event).__name__ for event in events]
    assert kinds[0] == "Started"
    assert kinds[-1] == "Finished"
    assert kinds.count("EpochDone") == len(shelf.safe) == 2
    assert [(p.epoch, p.step) for p in shelf.safe] == [(2, 0), (3, 0)]
    assert kinds.count("ChunkDone") == len(shelf.kept)
    last = of(ChunkDone, events)[-1]
    assert isinstance(last, ChunkDone)
    assert (last.epoch, last.step, last.steps, last.images, last.position) == (2, 9, 9, 60, 2.0)
    done = of(EpochDone, events)[-1]
    assert isinstance(done, EpochDone)
    assert (done.train_loss, done.test_correct, done.test_images) == (1.0, 5, 20)
    assert done.train_acc == last.train_acc
    finished = events[-1]
    assert isinstance(finished, Finished)
    result = finished.result
    assert (result.test_acc, result.epochs, result.run) == (0.25, 2, None)
    # The compute alone is never slower than everything together.
    assert result.images_per_s_compute >= 0
    assert 0 <= result.data_share <= 1
    assert result.seconds > 0


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_ends_where_the_loss_is_no_number(tiny: Dataset, loss: float) -> None:
    with pytest.raises(DivergedError, match="in epoch 1, at step 1"):
        run(tiny, Fake(loss), recipe())
    with pytest.raises(DivergedError, match="in the test after epoch 1"):
        run(tiny, Fake(tested=loss), recipe())


def test_a_run_at_chance_is_told(tiny: Dataset) -> None:
    class AtChance(Fake):
        def train(
            self, epoch: Epoch, first: int, stop: int, tally: Metrics
        ) -> tuple[Metrics, Times]:
            told, times = super().train(epoch, first, stop, tally)
            return Metrics(told.loss, told.count // 3, told.count), times

    events = run(tiny, AtChance(tested=math.log(3)), recipe(epochs=3))
    (notice,) = of(Noticed, events)
    assert isinstance(notice, Noticed)
    assert notice.kind == "plateau"


@given(cut=st.integers(0, 17), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_wherever_it_is_cut_the_rest_is_the_same(cut: int, seed: int) -> None:
    data, whole = make_data(), Shelf()
    engine = Fake()
    expected = run(data, engine, recipe(seed=seed), whole)
    positions = [Progress(), *whole.kept, *whole.safe]
    position = positions[cut % len(positions)]
    again = Fake()
    events = run(data, again, recipe(seed=seed), progress=position)
    # What is trained after the cut is what was trained after that position before.
    before = (position.epoch - 1) * 60 + position.tally.count
    assert [*chain(*again.seen)] == [*chain(*engine.seen)][before:]
    assert figures(events) == figures(expected)[len(figures(expected)) - len(figures(events)) :]


def figures(events: list[Event]) -> list[tuple[object, ...]]:
    """What is the same in each run of a training: the clock's figures are not."""
    marked = [e for e in events if not isinstance(e, ChunkDone) or e.mark]
    return [
        (type(e), e.epoch, e.train_loss, getattr(e, "step", None))
        for e in marked
        if isinstance(e, ChunkDone | EpochDone)
    ]


def test_a_wish_to_stop_is_granted_between_stretches(tiny: Dataset) -> None:
    control, shelf = Control(), Shelf()

    class Asking(Fake):
        def train(
            self, epoch: Epoch, first: int, stop: int, tally: Metrics
        ) -> tuple[Metrics, Times]:
            control.stop_by_signal(signal.SIGTERM)
            return super().train(epoch, first, stop, tally)

    with pytest.raises(Interrupted, match="stopped at epoch 1, after step 1") as caught:
        run(tiny, Asking(), recipe(), shelf, control)
    assert caught.value.signal is signal.SIGTERM
    assert [(p.epoch, p.step, p.tally.count) for p in shelf.safe] == [(1, 1, 7)]


def test_a_test_is_broken_off_and_done_again(tiny: Dataset) -> None:
    shelf, engine = Shelf(), Fake()

    class Breaking(Fake):
        def evaluate(self, between: Callable[[], None] = nothing) -> Metrics:
            signal.raise_signal(signal.SIGINT)
            between()
            raise AssertionError("not reached")

    control = Control()
    with Signals(control), pytest.raises(Interrupted, match="stopped at epoch 1, after step 9"):
        run(tiny, Breaking(), recipe(), shelf, control)
    (position,) = shelf.safe
    assert (position.epoch, position.step, position.done) == (1, 9, None)
    events = run(tiny, engine, recipe(), progress=position)
    assert [e.epoch for e in events if isinstance(e, EpochDone)] == [1, 2]
    assert len(engine.seen) == 1  # the second epoch alone


def test_a_training_that_was_over_only_ends(tiny: Dataset) -> None:
    shelf = Shelf()
    run(tiny, Fake(), recipe(), shelf)
    engine = Fake()
    events = run(tiny, engine, recipe(), progress=shelf.safe[-1])
    assert [type(event).__name__ for event in events] == ["Started", "Finished"]
    assert not engine.seen
    assert isinstance(events[-1], Finished)
    assert events[-1].result.test_acc == 0.25


def test_what_an_engine_has_to_tell_is_told_once(tiny: Dataset) -> None:
    engine = Fake()
    engine.told = [Notice("out-of-memory", "smaller from here on")]
    events = run(tiny, engine, recipe())
    (notice,) = of(Noticed, events)
    assert notice == Noticed("out-of-memory", 1, "smaller from here on")
