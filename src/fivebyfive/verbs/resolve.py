"""From what a user named to what it stands for: a recipe, a network, a dataset, a run."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn

from .. import datasets, networks, recipes, runs
from ..datasets.splits import Dataset
from ..lib.errors import DataError, NetworkError, RecipeError, RunError, UnknownNameError
from ..lib.files import expanded
from ..networks import user
from ..recipes import Recipe
from ..runs import Run

#: What to train or look into: a recipe's or a network's name, ``FILE.py:NAME``, a recipe, a module.
What: TypeAlias = str | Recipe | nn.Module
#: Where the images are: a dataset's name, a folder or file, or a dataset that is loaded already.
Data: TypeAlias = str | Path | Dataset

#: What a network without a recipe of its own is trained with.
USER_NETWORK: dict[str, Any] = {
    "source": "a network of your own",
    "init": "default",
    "optimizer": "adam",
    "lr": 0.001,
}


def recipe(what: What | None) -> Recipe:
    """The recipe that ``what`` stands for; LeNet's where nothing is named.

    Raises:
        UnknownNameError: neither a recipe nor a network, nor of the form ``FILE.py:NAME``.
        RecipeError: nothing that can be trained.
    """
    what = "lenet" if what is None else what
    if isinstance(what, Recipe):
        return what
    if isinstance(what, nn.Module):
        kind = type(what).__name__
        return Recipe(name=_slug(kind), network=kind, **USER_NETWORK)
    if not isinstance(what, str):
        kind = f"the class {what.__name__}" if isinstance(what, type) else type(what).__name__
        raise RecipeError(f"can't train {kind}; expected a name, a Recipe, or an nn.Module.")
    if networks.is_user_network(what):
        return Recipe(name=_slug(what.rpartition(":")[2]), network=what, **USER_NETWORK)
    if what in networks.NETWORKS:
        what = networks.NETWORKS[what].recipe
    if what not in recipes.RECIPES:
        hint = "A network of your own goes by FILE.py:NAME."
        known = [*recipes.RECIPES, *networks.NETWORKS]
        raise UnknownNameError("recipe or network", what, known, hint)
    return recipes.RECIPES[what]


def folder_of(recipe: Recipe, data: str | Path) -> tuple[str, Path | None]:
    """The dataset's name, and the folder or file to read, from what the user gave for it.

    Raises:
        UnknownNameError: neither a dataset's name nor something that exists.
        DataError: a path that can't be one.
        RecipeError: neither a name nor a path.
    """
    if not isinstance(data, str | Path):
        kind = type(data).__name__
        raise RecipeError(f"data is a {kind}; expected a dataset's name, a path, or a Dataset.")
    if str(data) in datasets.names():
        return str(data), None
    folder = expanded(data, DataError)
    if not folder.exists():
        hint = f"Or a folder or a file with images; there is none at {folder}."
        raise UnknownNameError("dataset", str(data), datasets.names(), hint)
    return recipe.dataset, folder


def run_folder(run: str | Path | Run) -> Path:
    """Where a run is that was given by its folder, or opened.

    Raises:
        RunError: it is neither.
    """
    if isinstance(run, Run):
        return run.path
    if not isinstance(run, str | Path):
        kind = type(run).__name__
        raise RunError(f"the run is given as {kind}; expected its folder's path, or a Run.")
    return expanded(run, RunError)


def load_run(path: str | Path) -> Run:
    """Open a run folder: ``run.recipe``, ``run.result``, ``run.metrics()``, ``run.network()``.

    Raises:
        RunError: there is no run there, or it can't be understood.
    """
    return runs.load(run_folder(path))


def network_of(run: Run, network: str | nn.Module | None) -> Callable[[], nn.Module] | None:
    """What builds a run's network that the user brings; ``None`` where they bring none.

    A module is copied; no code is run because a run folder names it.

    Raises:
        NetworkError: the name is another than the run's.
    """
    if network is None:
        return None
    if isinstance(network, nn.Module):
        module = network
        return lambda: copy.deepcopy(module)
    if networks.is_user_network(network):
        return user.find(network).make
    if network not in (run.recipe.name, run.recipe.network):
        raise NetworkError(
            f"the run's network is {run.recipe.network}, its recipe {run.recipe.name}; {network!r} "
            "can't resume it. Leave it out."
        )
    return None


def _slug(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-") or "network"
