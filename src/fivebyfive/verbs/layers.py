"""``layers``: every layer of a network with its shapes and costs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from .. import networks
from ..lib.errors import NetworkError, ShapeError
from ..lib.private_draws import PrivateDraws
from ..recipes import Recipe
from ..runs import Run
from ..runs.folder import INFO
from ..summary.layers import Layers, describe
from . import resolve
from .resolve import What

#: What a network that isn't a run's is built for.
CLASSES = 10


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
        what = resolve.load_run(what)
    if isinstance(what, Run):
        recipe, usual = what.recipe, what.input_shape
        module = what.architecture(resolve.network_of(what, network))
    elif network is not None:
        raise NetworkError(
            "--network goes with a run folder only. To inspect a network itself, name it where "
            "the run would stand."
        )
    else:
        recipe = resolve.recipe(what)
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


def _unbuilt(what: What, recipe: Recipe, channels: int) -> nn.Module:
    """The network with no memory taken for its weights, and no number drawn, where that can be."""
    if isinstance(what, nn.Module):
        return what
    with PrivateDraws(0):
        build = networks.builder(recipe.network)
        if networks.is_user_network(recipe.network):
            return build(channels, CLASSES)
        with torch.device("meta"):
            return build(channels, CLASSES)


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
