from __future__ import annotations

import pytest
from torch import nn

from fivebyfive import networks
from fivebyfive.lib.errors import NetworkError, ShapeError
from fivebyfive.summary.shape_errors import Running, explain, spell


def test_spelling_is_what_the_shell_takes():
    assert spell((1, 28, 28)) == "1x28x28"


def test_before_any_layer_ran():
    error = explain(networks.build("lenet"), (1, 9, 9), RuntimeError("too small\nby far"), ())
    assert isinstance(error, ShapeError)
    assert "its forward failed: too small. It does take 1x28x28" in str(error)


@pytest.mark.parametrize(
    ("layer", "came", "said"),
    [
        (nn.Linear(400, 10), (1, 576), "expects 400 features and got 576"),
        (nn.Conv2d(3, 8, 3), (1, 1, 28, 28), "expects 3 channels and got 1"),
        (nn.Conv2d(1, 8, 3), (1, 3, 28, 28), "expects 1 channel and got 3"),
        (nn.Conv2d(3, 8, 3), (1, 3, 2, 2), "failed: bad"),
    ],
)
def test_the_layer_that_failed_says_what_it_expected(layer, came, said):
    running = [Running("", nn.Sequential(), (1, 1, 9, 9)), Running("head", layer, came)]
    error = explain(nn.Sequential(layer), (1, 9, 9), ValueError("bad."), running)
    assert f"'head' ({type(layer).__name__}) {said}" in str(error)


def test_a_bug_in_the_network_is_no_matter_of_shape():
    error = explain(nn.Identity(), (1, 9, 9), KeyError("x"), ())
    assert isinstance(error, NetworkError)
    assert not isinstance(error, ShapeError)
