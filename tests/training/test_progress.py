from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivebyfive.engines.interface import Metrics
from fivebyfive.training.events import EpochDone, Speed
from fivebyfive.training.progress import Progress
from fivebyfive.training.throughput import Throughput

DONE = EpochDone(2, 10, 0.5, 0.8, 0.6, 0.7, 70, 100, Speed(1.0, 2.0, 0.5), 3.0, 0.5)
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(loss=finite, seconds=finite, step=st.integers(0, 10**6), done=st.sampled_from([None, DONE]))
def test_it_comes_back_from_json_to_the_last_digit(
    loss: float, seconds: float, step: int, done: EpochDone | None
) -> None:
    meter = Throughput(7, loss, seconds, loss)
    progress = Progress(3, step, Metrics(loss, 5, 7), 2, done, seconds, meter, meter)
    assert Progress.from_dict(json.loads(json.dumps(progress.as_dict()))) == progress


def test_the_place_in_words() -> None:
    assert Progress().place == "the start"
    assert Progress(epoch=3).place == "the end of epoch 2"
    assert Progress(epoch=3, step=7).place == "epoch 3, after step 7"


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 0},
        {"epoch": "1"},
        {"epoch": 1.5},
        {"step": -1},
        {"step": True},
        {"tally": None},
        {"tally": {"loss": float("nan"), "correct": 0, "count": 0}},
        {"seconds": "long"},
        {"plateau_since": "1"},
        {"done": {}},
        {"done": 3},
        {"meter": []},
    ],
)
def test_what_is_no_position(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no position of a training"):
        Progress.from_dict({**Progress().as_dict(), **change})
    with pytest.raises(ValueError, match="no position of a training"):
        Progress.from_dict({})
