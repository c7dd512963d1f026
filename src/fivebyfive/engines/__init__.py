"""Engines: who computes the steps. All compute the same mathematics; they differ in speed.

To add an engine, write its file beside this one and its line in :data:`ENGINES`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..kernels.library import report
from ..lib.errors import DeviceError, OutOfMemoryError, UnknownNameError
from .auto_precision import in_fastest_precision
from .cpu import Cpu
from .cuda import Cuda
from .distributed import Distributed
from .eager import Eager
from .interface import Engine, Job
from .out_of_memory import explain, is_out_of_memory

ENGINES: Mapping[str, type[Eager]] = {"cpu": Cpu, "cuda": Cuda, "eager": Eager}


def fastest(device: torch.device) -> str:
    """The name of the fastest engine that can run on ``device`` here."""
    return "cpu" if not why_unsupported("cpu", device) else "eager"


def why_unsupported(name: str, device: torch.device) -> str:
    """Why the engine called ``name`` can't run on ``device``; empty if it can."""
    if name in ("cpu", "cuda") and name != device.type:
        return f"the device is {device}"
    return report().reason if name == "cpu" and not report().active else ""


def make(name: str, job: Job) -> Engine:
    """The engine called ``name`` for a job; ``auto`` takes the fastest for the device.

    Where the recipe's precision is ``auto``, a few steps are measured on copies of the network, and
    the engine's own recipe names the one chosen. Several processes share the eager engine's work.

    Raises:
        UnknownNameError: with the nearest names.
        DeviceError: the engine was asked for by name and can't run here, or the device doesn't
            compute in the recipe's precision.
        RecipeError: ``micro_batch`` is below 1 or above the batch size.
        OutOfMemoryError: not even network and data fit.
    """
    if name not in (*ENGINES, "auto"):
        raise UnknownNameError("engine", name, [*ENGINES, "auto"])
    if reason := why_unsupported(name, job.device):
        raise DeviceError(f"the {name} engine can't run: {reason}. --engine eager runs everywhere.")
    kind = ENGINES[fastest(job.device) if name == "auto" else name]
    try:
        if job.recipe.precision == "auto":
            job = in_fastest_precision(kind, job)
        return kind(job) if job.processes.size == 1 else Distributed(job)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        message = explain(error, job.device, "before the first step")
        raise OutOfMemoryError(message) from error
