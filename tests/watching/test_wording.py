import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivebyfive.watching import wording


@pytest.mark.parametrize(("value", "text"), [(23456.7, "23,457"), (45.27, "45.3"), (0.0, "0.0")])
def test_rate(value, text):
    assert wording.rate(value) == text


@pytest.mark.parametrize(("epochs", "text"), [(1, "1 epoch of 235 steps"), (2, "2 epochs of")])
def test_the_header_counts_in_plain_english(training, epochs, text):
    assert dict(wording.header(training.started(epochs)))["training"].startswith(text)


def test_the_header_says_what_runs_in_the_kernels(training):
    started = training.started()
    assert "kernels" not in dict(wording.header(dataclasses.replace(started, kernels=None)))
    told = dataclasses.replace(started, kernels="5 of 9 layers; in PyTorch: Dropout (no kernel)")
    assert dict(wording.header(told))["kernels"] == told.kernels


@given(st.text())
@settings(deadline=None, max_examples=100)
def test_printable_is_one_line_without_control_characters(text):
    assert wording.printable(text).isprintable()
    assert wording.printable(wording.printable(text)) == wording.printable(text)
