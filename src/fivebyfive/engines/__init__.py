"""Engines: who computes the steps. All compute the same mathematics; they differ in speed.

To add an engine, write its file beside this one and its line in :data:`ENGINES`.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping

import torch
from torch import nn

from ..datasets.splits import Split
from ..kernels.library import report
from ..lib.errors import DeviceError, OutOfMemoryError, UnknownNameError
from ..recipes import Precision, Recipe
from .auto_precision import fastest_precision
from .cpu import Cpu
from .cuda import Cuda
from .distributed import Distributed
from .eager import Eager
from .interface import Engine, Notice
from .out_of_memory import explain, is_out_of_memory
from .process_group import SINGLE_PROCESS, ProcessGroup

ENGINES: Mapping[str, type[Eager]] = {"cpu": Cpu, "cuda": Cuda, "eager": Eager}

#: What makes an engine.
Kind = Callable[..., Engine]


def fastest(device: torch.device) -> str:
    """The name of the fastest engine that can run on ``device`` here."""
    return "cpu" if not why_unsupported("cpu", device) else "eager"


def why_unsupported(name: str, device: torch.device) -> str:
    """Why the engine called ``name`` can't run on ``device``; empty if it can."""
    if name in ("cpu", "cuda") and name != device.type:
        return f"the device is {device}"
    return report().reason if name == "cpu" and not report().active else ""


def make(
    name: str,
    network: nn.Module,
    recipe: Recipe,
    train: Split,
    test: Split,
    device: torch.device,
    micro_batch: int | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> Engine:
    """The engine called ``name`` over these images; ``auto`` takes the fastest for the device.

    Args:
        name: one of :data:`ENGINES`, or ``auto``.
        network: trained in place.
        recipe: what to compute. Where its precision is ``auto``, a few steps are measured on copies
            of the network, and the engine's own recipe names the one chosen.
        train: the training images.
        test: the test images.
        device: where to compute.
        micro_batch: images to compute at a time in training; ``None``: the whole batch.
        processes: the process group to compute with; several share the eager engine's work.

    Raises:
        UnknownNameError: with the nearest names.
        DeviceError: the engine was asked for by name and can't run here, or the device doesn't
            compute in the recipe's precision.
        RecipeError: ``micro_batch`` is below 1 or above the batch size.
        OutOfMemoryError: not even network and data fit.
    """
    if name not in (*ENGINES, "auto"):
        raise UnknownNameError("engine", name, [*ENGINES, "auto"])
    if reason := why_unsupported(name, device):
        raise DeviceError(f"the {name} engine can't run: {reason}. --engine eager runs everywhere.")

    alone: Kind = ENGINES[fastest(device) if name == "auto" else name]

    def engine(
        kind: Kind, precision: Precision, module: nn.Module, few: Split, notices: list[Notice]
    ) -> Engine:
        chosen = recipe.but(precision=precision)
        try:
            return kind(module, chosen, few, test, device, micro_batch, notices)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            message = explain(error, device, "before the first step")
            raise OutOfMemoryError(message) from error

    precision, notices = recipe.precision, []
    if precision == "auto":
        few = train.head(recipe.batch_size)
        precision, notice = fastest_precision(
            lambda each: engine(alone, each, copy.deepcopy(network), few, []), len(few), device
        )
        precision, notices = processes.exchange(precision)[0], [notice]
    final = alone if processes.size == 1 else functools.partial(Distributed, processes)
    return engine(final, precision, network, train, notices)
