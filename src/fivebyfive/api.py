"""The calls of the Python interface; the shell's words come down to the same ones."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import config as configuration
from . import datasets, networks, recipes, runs, watching
from .datasets.pixels import Pixels
from .errors import DataError, ShapeError, UnknownNameError
from .looking.judge import Verdict, judge
from .looking.layers import Layers, describe
from .looking.mistakes import draw_confusion, draw_mistakes
from .networks import own
from .recipes import Recipe
from .record import recording
from .runs import Run
from .training.devices import choose
from .training.events import Listener
from .training.session import Session, prepare
from .watching.choice import Mode
from .watching.tensorboard import TensorBoard

What = str | Recipe | nn.Module

#: What a network without a recipe of its own is trained with.
OWN: dict[str, Any] = {"init": "default", "optimizer": "adam", "lr": 0.001}


def train(
    what: What = "lenet",
    *,
    data: str | Path | None = None,
    device: str = "auto",
    engine: str = "auto",
    run: str | Path | None = None,
    config: str | Path | None = None,
    tensorboard: bool = False,
    watch: Mode = "auto",
    listeners: Sequence[Listener] = (),
    **settings: Any,
) -> Run:
    """Train a network and leave a run folder.

    Args:
        what: a recipe's or a network's name, ``FILE.py:NAME``, a :class:`Recipe`, or any
            ``nn.Module`` (trained in place).
        data: ``fashion-mnist``, ``mnist``, ``sample``, or a folder with the four IDX files.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        engine: ``auto`` or an engine's name.
        run: the new folder; without it ``runs/<date-time>-<recipe>`` in the current one.
        config: a TOML file with settings; those given as keywords win over it.
        tensorboard: also write event files for TensorBoard into the run folder.
        watch: how to show the progress; ``auto`` finds out where the program runs.
        listeners: more listeners for the training's events.
        settings: any setting of a recipe, such as ``epochs=3``; see ``recipes.SETTINGS``.

    Returns:
        The finished run, with the trained network in ``run.trained``.

    Raises:
        FiveByFiveError: something asked for can't be; nothing has been written then.
        DivergedError: the loss became infinite or not a number; the run folder tells how far the
            training came.
    """
    if config is not None:
        given = {key: value for key, value in settings.items() if value is not None}
        settings = {**configuration.read(config), **given}
        what = settings.pop(configuration.RECIPE, what)
    path = None if run is None else Path(run)
    if path is not None:
        runs.check_free(path)  # told before the data is loaded, not after
    session = ready(what, data=data, device=device, engine=engine, **settings)
    path = path or runs.default_path(session.recipe.name)
    watchers = [watching.choose(watch), *listeners]
    if tensorboard:
        watchers.append(TensorBoard(path))
    with recording(path, session) as record:
        record.result = session.run([*record.listeners, *watchers], path, record.after_epoch)
    return dataclasses.replace(runs.load(path), trained=session.network.eval())


def ready(
    what: What,
    *,
    data: str | Path | None = None,
    device: str = "auto",
    engine: str = "auto",
    **settings: Any,
) -> Session:
    """Everything :func:`train` needs, found and checked, with nothing written yet."""
    data = settings.pop("dataset", None) if data is None else data
    recipe = resolve(what)
    folder = None
    if data is not None:
        settings["dataset"], folder = _dataset(recipe, data)
    recipe = recipe.but(**settings)
    return prepare(
        recipe,
        network=what if isinstance(what, nn.Module) else None,
        folder=folder,
        # Only the dataset that every beginner starts with has a stand-in, and only where
        # nobody asked for it by name.
        named=data is not None or recipe.dataset != "fashion-mnist",
        epochs_named=settings.get("epochs") is not None,
        device=device,
        engine=engine,
    )


def resolve(what: What) -> Recipe:
    """The recipe that ``what`` stands for.

    Raises:
        UnknownNameError: neither a recipe nor a network, nor of the form ``FILE.py:NAME``.
    """
    if isinstance(what, Recipe):
        return what
    if isinstance(what, nn.Module):
        kind = type(what).__name__
        return Recipe(name=_slug(kind), network=kind, source="a network of your own", **OWN)
    if own.is_own(what):
        name = _slug(what.rpartition(":")[2])
        return Recipe(name=name, network=what, source="a network of your own", **OWN)
    if what in networks.NETWORKS:
        what = networks.NETWORKS[what].recipe
    if what not in recipes.RECIPES:
        hint = "A network of your own goes by FILE.py:NAME."
        known = [*recipes.RECIPES, *networks.NETWORKS]
        raise UnknownNameError("recipe or network", what, known, hint)
    return recipes.RECIPES[what]


def test(
    run: str | Path | Run,
    *,
    data: str | Path | None = None,
    network: str | nn.Module | None = None,
    device: str = "auto",
    pictures: bool = True,
) -> Verdict:
    """Test a run's network on the whole test split.

    Args:
        run: a run folder, or an opened run.
        data: a folder to look for the dataset's files in first.
        network: ``FILE.py:NAME`` or a module of the right kind, for runs of a network of your own.
        device: as for :func:`train`.
        pictures: also draw ``confusion.png`` and ``mistakes.png`` into the run folder.

    Raises:
        FiveByFiveError: the run, its data or its network can't be had.
    """
    opened = run if isinstance(run, Run) else load_run(run)
    place = choose(device)
    recipe = opened.recipe
    if data is None and recipe.dataset not in datasets.names():
        raise DataError(
            f"this run's data, {recipe.dataset!r}, is a folder of your own. "
            f"Name it by --data FOLDER."
        )
    dataset = datasets.load(recipe.dataset, data, limit=recipe.limit)
    if dataset.classes != opened.classes or dataset.test.shape != opened.image_shape:
        raise DataError(
            f"{dataset.name} isn't the data of this run, which has {len(opened.classes)} classes "
            f"and images of {opened.image_shape}. Name the run's data by --data FOLDER."
        )
    make = None if network is None else lambda: _module(network)
    verdict = judge(
        opened.network(make).to(place),
        dataset.test,
        Pixels(recipe.resize, recipe.mean, recipe.std),
        recipe.loss,
        dataset.classes,
        place,
    )
    if pictures:
        draw_confusion(verdict, opened.path / "confusion.png")
        draw_mistakes(verdict, dataset.test, opened.path / "mistakes.png")
    return verdict


def layers(
    what: What,
    *,
    input: str | tuple[int, int, int] | None = None,  # noqa: A002 (the shell's word)
    batch_size: int | None = None,
    optimizer: str | None = None,
) -> Layers:
    """Every layer of a network with its shapes and costs, computed without running it.

    Args:
        what: a network's or recipe's name, ``FILE.py:NAME``, a run folder, or any ``nn.Module``.
        input: one image's shape, ``(1, 28, 28)`` or ``"1x28x28"``; else what the recipe trains on.
        batch_size: for the training memory; else the recipe's.
        optimizer: ``sgd`` or ``adam``, for the training memory; else the recipe's.

    Raises:
        FiveByFiveError: no such network, or it doesn't take such images.
    """
    shape = _shape(input) if isinstance(input, str) else input
    if isinstance(what, str) and Path(what, runs.INFO).is_file():
        run = load_run(what)
        recipe, network, usual = run.recipe, run.network(), run.input_shape
    else:
        recipe = resolve(what)
        known = networks.NETWORKS.get(recipe.network)
        usual = known.input if known else (1, 28, 28)
        if known:
            channels = shape[0] if shape else usual[0]
            with torch.device("meta"):  # no memory is taken and no number drawn
                network = known.build(channels)
        else:
            network = what if isinstance(what, nn.Module) else own.load(recipe.network)
    return describe(
        network,
        shape or usual,
        recipe.batch_size if batch_size is None else batch_size,
        optimizer or recipe.optimizer,
    )


def load_run(path: str | Path) -> Run:
    """Open a run folder: ``run.recipe``, ``run.result``, ``run.metrics()``, ``run.network()``.

    Raises:
        RunError: there is no run there, or it can't be understood.
    """
    return runs.load(path)


def _dataset(recipe: Recipe, data: str | Path) -> tuple[str, Path | None]:
    """The dataset's name and the folder to look in first, from what the user gave for it."""
    if str(data) in datasets.names():
        return str(data), None
    folder = Path(data).expanduser()
    if not folder.is_dir():
        hint = f"Or a folder with the four IDX files; there is none at {folder}."
        raise UnknownNameError("dataset", str(data), datasets.names(), hint)
    return recipe.dataset, folder


def _module(network: str | nn.Module) -> nn.Module:
    if isinstance(network, nn.Module):
        return network
    return own.load(network) if own.is_own(network) else networks.build(network)


def _shape(text: str) -> tuple[int, int, int]:
    try:
        channels, height, width = (int(number) for number in text.lower().split("x"))
    except ValueError:
        message = f"--input is {text!r}; expected CHANNELSxHEIGHTxWIDTH, e.g. 1x28x28."
        raise ShapeError(message) from None
    return channels, height, width


def _slug(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-") or "network"
