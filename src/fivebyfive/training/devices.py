"""Which device to train on."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from ..lib.errors import DeviceError

FORMS = "auto, cpu, cuda, cuda:N or mps"


def choose(name: str = "auto") -> torch.device:
    """The device called ``name``; ``auto`` takes a CUDA GPU, then Apple's, then the CPU.

    Raises:
        DeviceError: no such device here; the message says which there are.
    """
    if name == "auto":
        name = next((kind for kind in ("cuda", "mps") if _available(kind)), "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"device {name!r} is unknown. Expected {FORMS}.") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"device {name!r} isn't supported. Expected {FORMS}.")
    if not _available(device.type) or (device.index or 0) >= _count(device.type):
        here = [kind for kind in ("cpu", "cuda", "mps") if _available(kind)]
        cards = f" ({_count('cuda')} CUDA cards)" if "cuda" in here else ""
        raise DeviceError(
            f"there is no device {name!r} here. PyTorch {torch.__version__} sees: "
            f"{', '.join(here)}{cards}. Leave --device out to use the best of them."
        )
    return device


def title(device: torch.device) -> str:
    """What a person calls the device: the processor's or the card's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU"
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' if threads != 1 else ''}"


def _available(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_available()
    return kind == "cpu" or torch.backends.mps.is_available()


def _count(kind: str) -> int:
    return torch.cuda.device_count() if kind == "cuda" else 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
