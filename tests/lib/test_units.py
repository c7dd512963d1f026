"""Sizes, counts and times in words; what is expected is written out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivebyfive.lib.units import clock, duration, scaled, size


def test_sizes_and_counts():
    assert [size(n) for n in (0, 40, 18_816, 999_700, 2e9)] == [
        "0 B", "40 B", "18.8 kB", "1 MB", "2 GB",
    ]  # fmt: skip
    assert [scaled(n, 4, "FLOP") for n in (0, 999, 2_263_920)] == [
        "0 FLOP", "999 FLOP", "2.264 MFLOP",
    ]  # fmt: skip
    assert [scaled(n, 4) for n in (40, 5.5611e9, 3e15)] == ["40", "5.561 G", "3000 T"]


@given(st.integers(0, 10**15 - 10**12))
def test_sizes_never_need_an_exponent(amount):
    number, unit = size(amount).split()
    assert "e" not in number
    assert float(number) < 1000
    assert unit in ("B", "kB", "MB", "GB", "TB")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59.4, "59 s"), (200, "3 min 20 s"), (1500, "25 min"), (1510, "25 min"),
     (3570, "1 h"), (7200, "2 h"), (7500, "2 h 5 min"), (13_200, "3 h 40 min"),
     (90_000, "1 day 1 h"), (172_800, "2 days"), (86_390, "1 day"), (200_000, "2 days 8 h")],
)  # fmt: skip
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (3723, "1:02:03")]
)
def test_a_clock(seconds, text):
    assert clock(seconds) == text
