"""What a run was had with, and which of it decides the last bits of its result."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..kernels.library import report
from ..networks.structure import digest
from ..training.devices import title
from ..training.session import Session
from ..version import __version__

#: What the bits of a result hang on, beside recipe and data, in words.
WORDS = {
    "fivebyfive": "the version of fivebyfive",
    "torch": "the version of PyTorch",
    "threads": "the number of threads",
    "device": "the device",
    "engine": "the engine",
    "kernels": "the kernels' instruction set",
    "micro_batch": "the images computed at a time",
    "test_batch": "the images tested at a time",
    "processes": "the number of processes",
    "network": "the network's layers, or its code,",
}


def environment() -> dict[str, str | int]:
    """The versions and the machine that a result was had with."""
    return {
        "fivebyfive": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
    }


def conditions(session: Session) -> dict[str, str | int]:
    """What the last bits of this training's result depend on; the keys of :data:`WORDS`."""
    device = session.device
    return {
        "fivebyfive": __version__,
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device": "cpu" if device.type == "cpu" else title(device),
        "engine": session.engine.name,
        "kernels": (report().active or "none") if session.engine.name == "cpu" else "none",
        "micro_batch": session.engine.micro_batch,
        "test_batch": session.engine.test_batch,
        "processes": session.processes.size,
        "network": digest(session.network),
    }


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words, what of it changed."""
    return [
        f"{words} changed from {then.get(name)} to {now[name]}"
        for name, words in WORDS.items()
        if name in then and then[name] != now[name]
    ]
