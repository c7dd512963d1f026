"""The book's choice of devices: a CUDA device if there is one, or else the CPU."""

from __future__ import annotations

import torch


def try_gpu(i: int = 0) -> torch.device:
    """The CUDA device number ``i`` if there is one, or else the CPU."""
    return torch.device(f"cuda:{i}" if i < torch.cuda.device_count() else "cpu")


def try_all_gpus() -> list[torch.device]:
    """All CUDA devices, or a list with the CPU alone."""
    return [torch.device(f"cuda:{i}") for i in range(torch.cuda.device_count())] or [try_gpu()]
