import dataclasses
import io
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from fivebyfive.watching.curves import History
from fivebyfive.watching.terminal_curves import render, ticks


def shown(history, width, rows):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render(history, width, rows))
    return console.file.getvalue().splitlines()


@pytest.fixture(scope="module")
def history(training):
    collected = History()
    for event in training.events():
        collected.add(event)
    return collected


@given(width=st.integers(60, 250), rows=st.integers(6, 60))
@settings(deadline=None, max_examples=8)
def test_fits_into_the_place_given(history, width, rows):
    lines = shown(history, width, rows)
    assert len(lines) <= rows
    assert max(len(line) for line in lines) <= width
    assert "loss" in lines[0]
    assert "● test acc" in lines[0]
    assert any("●" in line for line in lines[1:])


@pytest.mark.parametrize(("width", "rows"), [(59, 20), (100, 5), (0, 0)])
def test_too_small_a_place_gets_no_plot(history, width, rows):
    assert render(history, width, rows) is None


@pytest.mark.parametrize("loss", [math.nan, math.inf, 0.0, 1e30])
def test_every_loss_can_be_drawn(training, loss):
    history = History()
    history.add(training.started())
    history.add(dataclasses.replace(training.chunk(1, 47), train_loss=loss))
    assert len(shown(history, 80, 12)) == 12


def test_an_empty_history_is_a_pair_of_empty_plots():
    assert len(shown(History(), 80, 12)) == 12


@pytest.mark.parametrize(
    ("top", "most", "expected"),
    [
        (1.0, 5, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (1.0, 4, [0, 0.25, 0.5, 0.75, 1.0]),
        (2.4, 5, [0, 0.5, 1.0, 1.5, 2.0]),
        (10, 7, [0, 2, 4, 6, 8, 10]),
        (0.3, 3, [0, 0.1, 0.2, 0.3]),
    ],
)
def test_ticks_are_round(top, most, expected):
    assert ticks(top, most) == expected


def test_marks_on_the_axis_are_evenly_far_apart_in_a_usual_terminal(history):
    rows = [i for i, line in enumerate(shown(history, 80, 12)) if "┤" in line[30:]]
    assert {below - above for above, below in itertools.pairwise(rows)} == {2}


def test_many_tests_leave_the_other_curve_to_be_seen():
    def dots(epochs):
        many = History(epochs=epochs)
        for epoch in range(1, epochs + 1):
            many.test_acc.add(epoch, 0.5)
        return sum(line.count("●") for line in shown(many, 80, 12)[1:])

    assert dots(10) == 10
    assert 8 <= dots(100) <= 13


@given(top=st.floats(1e-6, 1e9), most=st.integers(1, 20))
@settings(deadline=None, max_examples=100)
def test_ticks_stay_within_the_axis(top, most):
    found = ticks(top, most)
    assert found[0] == 0
    assert found[-1] <= top * 1.01
    assert len(found) <= most + 1
