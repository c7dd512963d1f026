"""``--precision auto``: measuring a few steps in each precision that the device has."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ..recipes import Precision
from .allocator import release
from .interface import Engine, Epoch, Metrics, Notice
from .precision import PRECISIONS, why_unsupported

#: Time at least so many steps of each precision, and for so many seconds.
STEPS, SECONDS = 2, 0.2


def fastest_precision(
    trial: Callable[[Precision], Engine], images: int, device: torch.device
) -> tuple[Precision, Notice]:
    """The precision whose steps take the least time, and the line that says so.

    Args:
        trial: makes an engine for a precision, over a copy of the network, which it will train.
        images: how many training images the trial's engine has; a step takes them all.
        device: where it computes.
    """
    kinds = [p for p in PRECISIONS if not why_unsupported(p, device)]
    seconds = {p: _measured(trial(p), images, device) for p in kinds}
    release(device)
    best, *others = sorted(seconds, key=seconds.__getitem__)
    slower = "".join(f", in {p} {seconds[p]:.3g} s" for p in others)
    message = (
        f"precision auto: a step in {best} takes {seconds[best]:.3g} s{slower}. So {best} it is."
    )
    return best, Notice("precision", message)


def _measured(engine: Engine, images: int, device: torch.device) -> float:
    """Seconds that a step takes at best; the first one, which warms up, isn't counted."""
    epoch = Epoch(1, torch.arange(images, device=device), images)
    engine.train(epoch, 0, 1, Metrics())
    times: list[float] = []
    while len(times) < STEPS or sum(times) < SECONDS:
        begin = time.perf_counter()
        engine.train(epoch, 0, 1, Metrics())
        times.append(time.perf_counter() - begin)
    return min(times)
