"""Control from outside: stop, pause, resume and another learning rate, from any thread."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import fivebyfive as fbf
from fivebyfive.datasets.splits import Dataset
from fivebyfive.lib.errors import RecipeError
from fivebyfive.training import loop
from fivebyfive.training.events import ChunkDone, Event, LearningRateChanged, Paused, Resumed

SETTINGS = {"epochs": 3, "batch_size": 8, "lr": 0.3, "watch": "quiet", "device": "cpu"}


class When:
    """Calls something after so many chunks of steps; remembers all events."""

    def __init__(self, chunks: int, then: Callable[[], None]) -> None:
        self._left, self._then = chunks, then
        self.events: list[Event] = []

    def on(self, event: Event) -> None:
        self.events.append(event)
        self._left -= isinstance(event, ChunkDone)
        if isinstance(event, ChunkDone) and self._left == 0:
            self._then()

    def close(self) -> None:
        pass


class OneStep:
    """Chunks of one step each, whatever the clock says."""

    steps = 1

    def took(self, steps: int, seconds: float) -> None:
        pass


def weights(run: fbf.Run) -> str:
    return hashlib.sha256((run.path / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture
def train(tiny: Dataset, tmp_path: Path) -> Callable[..., fbf.Run]:
    def train(name: str, what: str = "lenet", **more: object) -> fbf.Run:
        return fbf.train(what, data=tiny, run=tmp_path / name, **{**SETTINGS, **more})

    return train


@pytest.mark.parametrize("what", ["lenet", "convnet"])
def test_a_stopped_training_returns_its_run_and_resumes_to_the_same_end(
    train: Callable[..., fbf.Run], tiny: Dataset, what: str
) -> None:
    whole = train("whole", what)
    control = fbf.Control()
    run = train("stopped", what, control=control, listeners=[When(7, control.stop)])
    assert run.result is None
    assert run.info["state"] == "stopped"
    assert fbf.load_run(run.path).info["state"] == "stopped"
    resumed = fbf.resume(run, data=tiny, watch="quiet")
    assert resumed.result is not None
    assert weights(resumed) == weights(whole)


def test_stopped_before_the_first_step(train: Callable[..., fbf.Run], tiny: Dataset) -> None:
    control = fbf.Control()
    control.stop()
    run = train("early", control=control)
    assert run.metrics() == []
    assert weights(fbf.resume(run, data=tiny, watch="quiet")) == weights(train("whole"))


def stop_at(moment: float, train: Callable[..., fbf.Run], tiny: Dataset, name: str) -> fbf.Run:
    """Stop from another thread after so many seconds, then resume."""
    control = fbf.Control()
    timer = threading.Timer(moment, control.stop)
    timer.start()
    run = train(name, control=control)
    timer.join()
    return run if run.result is not None else fbf.resume(run, data=tiny, watch="quiet")


@pytest.mark.parametrize("rounds", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_stopped_at_random_moments_it_ends_the_same(
    train: Callable[..., fbf.Run], tiny: Dataset, rounds: int
) -> None:
    begin = time.perf_counter()
    whole = weights(train("whole"))
    took = time.perf_counter() - begin
    drawn = random.Random(0)
    ends = {
        weights(stop_at(drawn.uniform(0, took), train, tiny, f"run-{number}"))
        for number in range(rounds)
    }
    assert ends == {whole}


def test_a_paused_training_waits_and_changes_nothing(train: Callable[..., fbf.Run]) -> None:
    control = fbf.Control()

    def pause() -> None:
        control.pause()
        threading.Timer(0.3, control.resume).start()

    listener = When(4, pause)
    run = train("paused", control=control, listeners=[listener])
    assert weights(run) == weights(train("whole"))
    kinds = [type(event) for event in listener.events]
    assert kinds.index(Resumed) == kinds.index(Paused) + 1
    (resumed,) = (event for event in listener.events if isinstance(event, Resumed))
    assert resumed.seconds >= 0.25
    assert not [row for row in run.metrics() if row["event"] in ("paused", "resumed")]


def test_a_paused_training_can_be_stopped(train: Callable[..., fbf.Run], tiny: Dataset) -> None:
    control = fbf.Control()

    def pause() -> None:
        control.pause()
        threading.Timer(0.1, control.stop).start()

    run = train("paused", control=control, listeners=[When(2, pause)])
    assert run.info["state"] == "stopped"
    assert weights(fbf.resume(run, data=tiny, watch="quiet")) == weights(train("whole"))


@pytest.mark.parametrize(
    ("what", "engine"), [("lenet", "cpu"), ("lenet", "eager"), ("convnet", "cpu")]
)
def test_another_learning_rate_is_an_event_that_a_resume_repeats(
    monkeypatch: pytest.MonkeyPatch,
    train: Callable[..., fbf.Run],
    tiny: Dataset,
    what: str,
    engine: str,
) -> None:
    monkeypatch.setattr(loop, "ChunkSizer", OneStep)
    control = fbf.Control()
    listener = When(3, lambda: control.set(lr=0.01))
    whole = train("whole", what, engine=engine, control=control, listeners=[listener])
    (change,) = (e for e in listener.events if isinstance(e, LearningRateChanged))
    assert (change.before, change.lr) == (0.3, 0.01)
    (row,) = (row for row in whole.metrics() if row["event"] == "lr")
    place = {"epoch": change.epoch, "step": change.step}
    assert row == {"event": "lr", **place, "before": 0.3, "lr": 0.01}
    assert weights(whole) != weights(train("unchanged", what, engine=engine))

    again = fbf.Control()
    changing = When(3, lambda: again.set(lr=0.01))
    stopping = When(6, again.stop)
    run = train("cut", what, engine=engine, control=again, listeners=[changing, stopping])
    assert run.info["state"] == "stopped"
    resumed = fbf.resume(run, data=tiny, watch="quiet")
    assert [r for r in resumed.metrics() if r["event"] == "lr"] == [row]
    assert weights(resumed) == weights(whole)


@pytest.mark.parametrize("lr", [0, -1, float("nan"), float("inf"), "0.1", True, None])
def test_a_learning_rate_that_no_training_can_have(lr: object) -> None:
    with pytest.raises(RecipeError, match="expected a finite number above 0"):
        fbf.Control().set(lr=lr)  # type: ignore[arg-type]
