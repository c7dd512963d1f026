from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from rich.console import Console

import fivebyfive as fbf
from fivebyfive import recipes
from fivebyfive.lib.errors import DataError, RecipeError
from fivebyfive.lib.text import plain
from fivebyfive.recipes import Published
from fivebyfive.training.session import prepare
from fivebyfive.verbs import reproduce as reproduction
from fivebyfive.verbs.reproduce import Comparison, Reproduction, estimate


def comparison(*values: float) -> Comparison:
    return Comparison("r", "test_acc", values, Published(0.8, 0.75, 0.85, 130, "b", sd=0.016))


def test_judges_each_seed() -> None:
    assert comparison(0.76, 0.84).inside == 2
    outside = comparison(0.8, 0.7, 0.86)
    assert outside.inside == 1
    assert outside.worst == pytest.approx(-0.05)
    assert comparison(0.8).sd == 0.0
    assert Reproduction((comparison(0.8),), ()).ok
    assert outside.mean_inside
    assert not Reproduction((comparison(0.8), outside), ()).ok
    assert not Reproduction((comparison(0.8), comparison(0.7)), ()).ok


def test_the_table_says_by_how_much() -> None:
    console = Console(width=160)
    with console.capture() as capture:
        some = (comparison(0.8, 0.7), comparison(0.8), comparison(0.7))
        console.print(Reproduction(some, ()))
    text = capture.get()
    assert "mean outside; 1 of 1 runs out" in repr(Reproduction(some, ()))
    assert "0.8 ± 0.016 " in text
    assert "0.750–0.850 (130)" in text
    assert "mean inside; 1 of 2 runs out, by up to -0.0500" in text
    assert "mean outside; 1 of 1 runs out" in text
    assert text.count("inside") == 2


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_terminal_cuts_nothing(width: int) -> None:
    text = plain(Reproduction((comparison(0.8, 0.7),), ()), width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    words = text.split()
    assert {"0.750–0.850", "0.7500", "0.7000–0.8000", "inside;", "-0.0500"} <= set(words)


def test_runs_every_seed_and_compares(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The figures of a recipe for the tiny data, so that the whole way is gone in a second.
    short = recipes.get("convnet-mnist").but(epochs=2, dataset="tiny")
    figures = {
        "test_acc": Published(0.9, 0.0, 1.0, 1, "made up"),
        "test_acc_epoch_1": Published(None, 2.0, 3.0, 1, "made up"),
    }
    monkeypatch.setitem(
        recipes.RECIPES, "short", dataclasses.replace(short, name="short", published=figures)
    )
    said: list[str] = []
    found = fbf.reproduce(
        ["short"], 2, data=tiny_folder, run=tmp_path / "r", watch="quiet", say=said.append
    )
    assert [Path(folder).name for folder in found.runs] == ["short-seed-0", "short-seed-1"]
    last, first = found.comparisons
    assert len(last.values) == len(first.values) == 2
    assert (last.inside, first.inside) == (2, 0)
    assert first.worst <= -1
    assert not found.ok
    assert found.as_dict()["comparisons"][0]["inside"] == 2
    assert "about" in said[0]
    assert "2 trainings" in said[1]


def test_no_figure_is_compared_with_other_data(tiny_folder: Path, tmp_path: Path) -> None:
    for data in (tiny_folder, "sample"):
        with pytest.raises(DataError, match="figures of lenet-d2l are for fashion-mnist"):
            fbf.reproduce("lenet-d2l", 1, data=data, run=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_recipes_without_figures_and_no_seeds() -> None:
    with pytest.raises(RecipeError, match="no figures are published for lenet-mnist"):
        reproduction.reproduce(["lenet-mnist"], 1)
    with pytest.raises(RecipeError, match="seeds is 0"):
        reproduction.reproduce(["lenet-d2l"], 0)


def test_the_estimate_counts_training_and_testing(tiny_folder: Path) -> None:
    few = prepare(recipes.get("lenet-d2l").but(epochs=1), folder=tiny_folder, device="cpu")
    assert estimate(few, seconds=0.01) > 0
