"""Engines: who computes the steps. All compute the same mathematics; they differ in speed.

To add an engine, write its file beside this one and its line in :data:`ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from ..datasets.splits import Split
from ..errors import DeviceError, UnknownNameError
from ..kernels.library import report
from ..recipes import Recipe
from .cpu import Cpu
from .eager import Eager
from .work import Engine

Make = Callable[[nn.Module, Recipe, Split, Split, torch.device], Engine]

ENGINES: Mapping[str, Make] = {"cpu": Cpu, "eager": Eager}


def fastest(device: torch.device) -> str:
    """The name of the fastest engine that can run on ``device`` here."""
    return "cpu" if device.type == "cpu" and report().active else "eager"


def make(
    name: str,
    network: nn.Module,
    recipe: Recipe,
    train: Split,
    test: Split,
    device: torch.device,
) -> Engine:
    """The engine called ``name`` over these images; ``auto`` takes the fastest for the device.

    Raises:
        UnknownNameError: with the nearest names.
        DeviceError: the CPU engine was asked for by name and can't run here.
    """
    if name == "auto":
        name = fastest(device)
    if name not in ENGINES:
        raise UnknownNameError("engine", name, [*ENGINES, "auto"])
    if name == "cpu" and fastest(device) != "cpu":
        reason = report().reason if device.type == "cpu" else f"the device is {device}"
        raise DeviceError(f"the cpu engine can't run: {reason}. --engine eager runs everywhere.")
    return ENGINES[name](network, recipe, train, test, device)
