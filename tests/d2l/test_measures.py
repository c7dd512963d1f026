# ruff: noqa: N803 (X, Y, K and W are the book's names)
from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fivebyfive import d2l
from fivebyfive.d2l import measures
from fivebyfive.lib.errors import DataError


def test_accumulator_sums_and_resets():
    sums = d2l.Accumulator(3)
    sums.add(1, torch.tensor(2.5, requires_grad=True), True)
    sums.add(1, 2, 0)
    assert (sums[0], sums[1], sums[2]) == (2.0, 4.5, 1.0)
    assert sums[-1] == 1.0
    sums.reset()
    assert sums.data == [0.0, 0.0, 0.0]


def test_timer(monkeypatch):
    clock = iter([10.0, 11.0, 20.0, 23.0, 30.0, 30.5])
    monkeypatch.setattr(measures.time, "perf_counter", lambda: next(clock))
    timer = d2l.Timer()
    assert timer.stop() == 1.0
    timer.start()
    assert timer.stop() == 3.0
    timer.start()
    timer.stop()
    assert timer.times == [1.0, 3.0, 0.5]
    assert timer.sum() == 4.5
    assert timer.avg() == 1.5
    assert timer.cumsum() == [1.0, 4.0, 4.5]


@settings(deadline=None, max_examples=30)
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=20), data=st.data())
def test_accuracy_counts_right_answers(labels, data):
    guesses = data.draw(st.lists(st.integers(0, 3), min_size=len(labels), max_size=len(labels)))
    expected = sum(a == b for a, b in zip(labels, guesses, strict=True))
    y, classes = torch.tensor(labels), torch.tensor(guesses)
    scores = nn.functional.one_hot(classes, 4).float()
    for y_hat in (scores, classes, classes.float()):
        right = d2l.accuracy(y_hat, y)
        assert right == expected
        assert isinstance(right, float)


def echo(X):
    """A network whose scores are its input."""
    assert not torch.is_grad_enabled()
    return X


def batches():
    scores = torch.eye(4)
    return [(scores, torch.tensor([0, 1, 2, 0])), (scores[:1], torch.tensor([0]))]


def test_whole_set_is_evaluated_not_its_first_batch():
    assert d2l.evaluate_accuracy(echo, batches()) == 4 / 5
    assert d2l.evaluate_accuracy_gpu(echo, batches()) == 4 / 5
    assert d2l.evaluate_accuracy_gpu(echo, batches(), device="cpu") == 4 / 5


@pytest.mark.parametrize("evaluate", [d2l.evaluate_accuracy, d2l.evaluate_accuracy_gpu])
def test_a_module_is_left_in_evaluation_mode(evaluate):
    net = nn.Sequential(nn.Dropout(0.5))
    assert evaluate(net, batches()) == 4 / 5
    assert not net.training


def test_a_batch_may_be_a_list_of_inputs():
    data = [([X, X], y) for X, y in batches()]
    assert d2l.evaluate_accuracy_gpu(lambda parts: parts[0] + parts[1], data, "cpu") == 4 / 5


def test_no_batch_to_evaluate_on():
    with pytest.raises(DataError, match="no batch"):
        d2l.evaluate_accuracy_gpu(echo, [])
