from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivebyfive import networks, recipes
from fivebyfive.lib.errors import RecipeError, UnknownNameError
from fivebyfive.recipes import RECIPES, Published, Recipe

named = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())


@named
def test_survives_json(recipe: Recipe) -> None:
    assert recipes.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe


@named
def test_names_a_network_and_says_where_it_comes_from(recipe: Recipe) -> None:
    assert recipe.network in networks.NETWORKS
    assert recipe.source
    for figure in recipe.published.values():
        assert figure.low <= (figure.mean or figure.low) <= figure.high
        assert figure.builds >= 1
        assert figure.basis


@named
def test_only_seed_and_precision_keep_the_published_figures(recipe: Recipe) -> None:
    assert recipe.precision == "fp32"
    assert recipe.but(seed=7).published == recipe.published
    assert recipe.but(precision="bf16").published == recipe.published
    assert recipe.but(epochs=recipe.epochs).published == recipe.published
    assert recipe.but(epochs=recipe.epochs + 1).published == {}


def test_the_recipes_of_the_seeds() -> None:
    lenet = recipes.get("lenet-d2l")
    assert (lenet.batch_size, lenet.epochs, lenet.lr, lenet.optimizer) == (256, 10, 0.9, "sgd")
    assert lenet.init == "xavier"
    alexnet = recipes.get("alexnet-d2l")
    assert (alexnet.batch_size, alexnet.lr, alexnet.resize) == (128, 0.01, 224)
    convnet = recipes.get("convnet-mnist")
    assert (convnet.batch_size, convnet.epochs, convnet.optimizer) == (512, 20, "adam")
    assert (convnet.mean, convnet.std, convnet.loss) == (0.1307, 0.3081, "nll")
    assert recipes.get("lenet-d2l-1.0").but().batch_size == 128
    assert recipes.get("lenet-mnist").dataset == "mnist"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; expected a whole number of at least 1"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"batch_size": True}, "batch_size is True"),
        ({"epochs": -1}, "epochs is -1"),
        ({"precision": "fp64"}, "precision is 'fp64'; expected one of fp32, bf16, tf32, auto"),
        ({"precision": 16}, "precision is 16; expected one of"),
        ({"lr": math.nan}, "lr is nan; expected a finite number"),
        ({"lr": math.inf}, "lr is inf"),
        ({"lr": 10**400}, "expected a finite number"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"lr": -0.1}, "lr is -0.1; expected a finite number above 0"),
        ({"std": 0}, "std is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "below 2"),
        ({"limit": 0}, "limit is 0"),
        ({"resize": 0}, "resize is 0"),
        ({"optimizer": "rmsprop"}, "optimizer is 'rmsprop'; expected one of sgd, adam"),
        ({"loss": "l2"}, "loss is 'l2'"),
        ({"init": 3}, "init is 3"),
        ({"network": ""}, "network is ''"),
        ({"bach_size": 3}, "unknown setting 'bach_size'. Did you mean 'batch_size'?"),
    ],
)
def test_refuses_what_cant_be(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipes.get("lenet-d2l").but(**change)
    assert message in str(caught.value)


def test_another_optimizer_brings_its_usual_learning_rate() -> None:
    lenet = recipes.get("lenet-d2l")
    assert lenet.but(optimizer="adam").lr == 0.001
    assert lenet.but(optimizer="adam", lr=0.01).lr == 0.01
    assert lenet.but(optimizer="sgd").lr == 0.9
    assert lenet.but(optimizer=None).lr == 0.9


def test_a_changed_recipe_tells_what_changed() -> None:
    lenet = recipes.get("lenet-d2l")
    assert lenet.changed() == []
    changed = lenet.but(lr=0.5, seed=3)
    assert sorted(changed.changed()) == ["lr", "seed"]
    assert changed.plateau == ""  # what it said holds for the recipe as it was
    mine = lenet.but(name="mine")
    assert (mine.name, mine.published) == ("mine", lenet.published)


def test_an_unknown_name_and_a_record_that_is_none() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'lenet-d2l'"):
        recipes.get("lenet-d2")
    with pytest.raises(RecipeError, match="not a recipe"):
        recipes.from_dict({"name": "x", "nonsense": 1})


def test_a_record_from_before_there_were_precisions_is_fp32() -> None:
    record = recipes.get("lenet-d2l").as_dict()
    del record["precision"]
    assert recipes.from_dict(record) == recipes.get("lenet-d2l")


@given(st.floats(0, 1), st.floats(0, 1), st.floats(-1, 2))
def test_excess_is_the_signed_distance_from_the_range(a: float, b: float, value: float) -> None:
    figure = Published(None, min(a, b), max(a, b), 1, "made up")
    excess = figure.excess(value)
    assert (excess == 0) == (figure.low <= value <= figure.high)
    assert figure.low - 1e-12 <= value - excess <= figure.high + 1e-12
