"""Looking at what there is: a run's network tested, any network's layers laid open."""

from __future__ import annotations

import copy
import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from .. import datasets, networks
from ..api import What, find_dataset, load_run, resolve
from ..datasets.pixels import Pixels
from ..datasets.splits import Dataset
from ..evaluation.evaluate import Evaluation, evaluate
from ..evaluation.mistakes import draw_confusion, draw_mistakes
from ..lib.errors import DataError, NetworkError, ShapeError
from ..lib.randomness import kept
from ..networks import user as own
from ..recipes import Recipe
from ..runs import Run
from ..runs.folder import INFO
from ..summary.layers import Layers, describe
from ..training.devices import choose


def test(
    run: str | Path | Run,
    *,
    data: str | Path | None = None,
    network: str | nn.Module | None = None,
    device: str = "auto",
    pictures: bool = True,
) -> Evaluation:
    """Test a run's network on the whole test split, however few images it was trained on.

    Args:
        run: a run folder, or an opened run.
        data: another place for the run's data, or other data with the same classes: as for
            :func:`train`.
        network: ``FILE.py:NAME`` or a module of the right kind, for runs of a network of your own.
        device: as for :func:`train`.
        pictures: also draw ``confusion.png`` and ``mistakes.png`` into the run folder. Where that
            can't be done a warning says so.

    Raises:
        FiveByFiveError: the run, its data or its network can't be had.
    """
    opened = run if isinstance(run, Run) else load_run(run)
    place = choose(device)
    dataset = _data_of(opened, data)
    verdict = evaluate(
        opened.network(_make(network)).to(place),
        dataset.test,
        Pixels(opened.recipe.resize, opened.recipe.mean, opened.recipe.std),
        opened.recipe.loss,
        dataset.classes,
        place,
    )
    if pictures:
        try:
            draw_confusion(verdict, opened.path / "confusion.png")
            draw_mistakes(verdict, dataset.test, opened.path / "mistakes.png")
        except OSError as error:
            warnings.warn(f"can't draw the pictures in {opened.path}: {error}", stacklevel=2)
    return verdict


def layers(
    what: What | Path | Run,
    *,
    input: str | tuple[int, int, int] | None = None,  # noqa: A002 (the shell's word)
    batch_size: int | None = None,
    optimizer: str | None = None,
    network: str | nn.Module | None = None,
) -> Layers:
    """Every layer of a network with its shapes and costs, computed without running it.

    Args:
        what: a network's or recipe's name, ``FILE.py:NAME``, a run or its folder, or any
            ``nn.Module``.
        input: one image's shape, ``(1, 28, 28)`` or ``"1x28x28"``; else what the recipe trains on.
        batch_size: for the training memory; else the recipe's.
        optimizer: ``sgd`` or ``adam``, for the training memory; else the recipe's.
        network: as for :func:`test`, for runs of a network of your own.

    Raises:
        FiveByFiveError: no such network, or it doesn't take such images.
    """
    shape = None if input is None else _shape(input)
    if isinstance(what, Path) or (isinstance(what, str) and _is_folder(what)):
        what = load_run(what)
    if isinstance(what, Run):
        recipe, usual = what.recipe, what.input_shape
        module = what.architecture(_make(network))
    elif network is not None:
        raise NetworkError(
            "--network goes with a run folder only. To look into a network itself, name it where "
            "the run would stand."
        )
    else:
        recipe = resolve(what)
        known = networks.NETWORKS.get(recipe.network)
        usual = known.input if known else (1, 28, 28)
        channels = shape[0] if shape else usual[0]
        module = _unbuilt(what, recipe, channels)
    return describe(
        module,
        shape or usual,
        recipe.batch_size if batch_size is None else batch_size,
        optimizer or recipe.optimizer,
        name=recipe.network,
        loss=recipe.loss,
    )


def _data_of(run: Run, data: str | Path | None) -> Dataset:
    """The run's own data, or what the user names instead if it has the same kind of images."""
    if data is not None:
        name, folder = find_dataset(run.recipe, data)
        dataset = datasets.load(name, folder)
    elif run.recipe.dataset in datasets.names():
        dataset = datasets.load(run.recipe.dataset)
    else:
        raise DataError(
            f"this run's data, {run.recipe.dataset!r}, is a folder of your own. "
            f"Name it by --data FOLDER."
        )
    if dataset.classes != run.classes or dataset.test.shape != run.image_shape:
        raise DataError(
            f"{dataset.name} isn't the data of this run, which has {len(run.classes)} classes "
            f"and images of {run.image_shape}. Name the run's data by --data FOLDER."
        )
    return dataset


def _make(network: str | nn.Module | None) -> Callable[[], nn.Module] | None:
    """What makes the network that the user names for a run: the user's own module is copied."""
    if network is None:
        return None
    if isinstance(network, nn.Module):
        module = network
        return lambda: copy.deepcopy(module)
    if networks.is_user_network(network):
        return own.find(network).make
    return networks.get(network).build


def _unbuilt(what: What, recipe: Recipe, channels: int) -> nn.Module:
    """The network with no memory taken for its weights, and no number drawn, where that can be."""
    if isinstance(what, nn.Module):
        return what
    with kept():
        if networks.is_user_network(recipe.network):
            return own.load(recipe.network)
        with torch.device("meta"):
            return networks.build(recipe.network, channels)


def _is_folder(name: str) -> bool:
    """Whether ``name`` is a run's folder, or could be nothing else."""
    return Path(name, INFO).is_file() or (os.sep in name and not networks.is_user_network(name))


def _shape(given: str | Sequence[int]) -> tuple[int, int, int]:
    numbers: Sequence[object] = ()
    if isinstance(given, str):
        match = re.fullmatch(r"([1-9]\d*)[x×]([1-9]\d*)[x×]([1-9]\d*)", given.lower())
        numbers = [int(number) for number in match.groups()] if match else ()
    elif isinstance(given, Sequence):
        numbers = given
    match numbers:
        case [int(channels), int(height), int(width)]:
            return channels, height, width
    raise ShapeError(f"--input is {given!r}; expected CHANNELSxHEIGHTxWIDTH, e.g. 1x28x28.")
