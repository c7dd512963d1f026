from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from fivebyfive import d2l


@pytest.fixture(autouse=True)
def clean_pyplot():
    d2l.plt.switch_backend("agg")
    with d2l.plt.rc_context():
        yield
    d2l.plt.close("all")


def curves():
    return [line.get_xydata().tolist() for line in d2l.plt.gca().lines]


X = [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((X, [[1, 2, 3], [4, 5, 6]]), [[[0, 1], [1, 2], [2, 3]], [[0, 4], [1, 5], [2, 6]]]),
        ((torch.tensor(X), torch.tensor(X) * 2), [[[0, 0], [1, 2], [2, 4]]]),
        (([[0, 1], [5, 6]], [[1, 1], [2, 2]]), [[[0, 1], [1, 1]], [[5, 2], [6, 2]]]),
        ((np.array([3.0, 4.0]),), [[[0, 3], [1, 4]]]),
        (([[3, 4], [5, 6]],), [[[0, 3], [1, 4]], [[0, 5], [1, 6]]]),
    ],
)
def test_plot_draws_each_curve(arguments, expected):
    d2l.plot(*arguments)
    assert curves() == expected


def test_plot_into_given_axes_with_everything_set():
    _, axes = d2l.plt.subplots()
    d2l.plot(X, [X, X], "time", "speed", ["a", "b"], [0, 2], [1, 9], yscale="log", axes=axes)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time", "speed")
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 2), (1, 9))
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")
    assert [text.get_text() for text in axes.get_legend().texts] == ["a", "b"]
    assert axes.lines[1].get_linestyle() == "--"


def test_limits_that_span_nothing_are_left_out():
    axes = d2l.plt.gca()
    d2l.set_axes(axes, None, None, [1, 1], [3, 3], "linear", "linear", None)
    assert axes.get_xlim()[0] < axes.get_xlim()[1]


def test_set_figsize():
    d2l.set_figsize((5, 4))
    assert d2l.plt.rcParams["figure.figsize"] == [5, 4]


def test_show_images():
    images = [torch.zeros(4, 4), torch.ones(4, 4, 3), Image.new("L", (4, 4))]
    axes = d2l.show_images(images, 2, 2, titles=["a", "b", "c"])
    assert axes.shape == (4,)
    assert [len(place.images) for place in axes] == [1, 1, 1, 0]
    assert [place.get_title() for place in axes] == ["a", "b", "c", ""]
    assert math.isclose(d2l.plt.gcf().get_figwidth(), 3.0)
    assert d2l.show_images(images[:1], 1, 1).shape == (1,)


WITHOUT_A_DISPLAY = """
import sys
from fivebyfive import d2l
assert "matplotlib.pyplot" not in sys.modules
d2l.plot([1, 2])
d2l.plt.show()
"""


def test_show_without_a_display_says_nothing(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    program = [sys.executable, "-W", "error", "-c", WITHOUT_A_DISPLAY]
    done = subprocess.run(program, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
