"""Engines: who computes the steps. All compute the same mathematics; they differ in speed.

To add an engine, write its file beside this one and its line in :data:`ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from ..datasets.splits import Split
from ..errors import UnknownNameError
from ..recipes import Recipe
from .eager import Eager
from .work import Engine

Make = Callable[[nn.Module, Recipe, Split, Split, torch.device], Engine]

ENGINES: Mapping[str, Make] = {"eager": Eager}


def make(
    name: str,
    network: nn.Module,
    recipe: Recipe,
    train: Split,
    test: Split,
    device: torch.device,
) -> Engine:
    """The engine called ``name`` (``auto``: the fastest for this device) over these images.

    Raises:
        UnknownNameError: with the nearest names.
    """
    if name == "auto":
        name = "eager"
    if name not in ENGINES:
        raise UnknownNameError("engine", name, [*ENGINES, "auto"])
    return ENGINES[name](network, recipe, train, test, device)
