from __future__ import annotations

import io

import pytest
from rich.console import Console

from fivebyfive.evaluation.evaluate import Evaluation
from fivebyfive.lib.text import plain


def matrix_of(text: str) -> list[str]:
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("true ↓")), None)
    return [] if start is None else lines[start : start + 5]


def test_everything_in_a_wide_terminal(verdict):
    text = str(verdict)
    assert text.startswith("Test set: Average loss: ")
    assert "dark" in text
    assert "66.7 %" in text
    assert "no images" in text
    assert "[grey]" in text  # not predicted as markup
    assert "$bright$ and a lo…" in text
    assert "1 × dark predicted as [grey]" in text


def test_the_matrix_is_aligned(verdict):
    head, *rows = matrix_of(str(verdict))
    assert [row.split()[0] for row in rows] == ["0", "1", "2", "3"]
    columns = [head.rindex(f" {label}") + 1 for label in range(4)]
    assert [[row[c] for c in columns] for row in rows] == [
        ["4", "1", "1", "·"],
        ["·", "2", "·", "·"],
        ["·", "1", "3", "·"],
        ["·", "·", "·", "·"],
    ]


def test_numbers_as_names_stand_once():
    digits = Evaluation(1.0, 3, 5, ("0", "1"), ((2, 1), (1, 1)), ())
    assert [line.split() for line in matrix_of(str(digits))[1:3]] == [["0", "2", "1"], ["1"] * 3]
    assert "1 × 0 predicted as 1" in str(digits)
    assert repr(digits) == str(digits)  # what a notebook shows


@pytest.mark.parametrize("width", [24, 40, 80])
def test_a_narrow_terminal_does_without_the_matrix(verdict, width):
    text = plain(verdict, width)
    assert all(len(line) <= width for line in text.splitlines())
    assert bool(matrix_of(text)) == (width >= 40)
    assert "Most often confused" in text


def test_shades_where_there_is_colour(verdict):
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor")
    console.print(verdict)
    written = console.file.getvalue()
    assert "\x1b[37;48;2;22;120;60m" in written  # a class that is always told right
    assert "\x1b[30;48;2;" in written
    assert "\x1b" not in str(verdict)


def test_a_perfect_network_has_nothing_confused():
    perfect = Evaluation(0.0, 4, 4, ("a", "b"), ((2, 0), (0, 2)), ())
    assert "confused" not in str(perfect)
    assert "100.0 %" in str(perfect)


def test_many_classes_fall_back_to_the_pairs():
    confusion = tuple(tuple(7 if i == j else i % 3 for j in range(100)) for i in range(100))
    verdict = Evaluation(1.0, 700, 10500, tuple(map(str, range(100))), confusion, ())
    text = str(verdict)
    assert matrix_of(text) == []
    assert "predicted as" in text
