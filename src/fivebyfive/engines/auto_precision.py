"""``--precision auto``: measuring a few steps in each precision that the device has."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable

import torch

from ..recipes import Precision
from .allocator import release
from .interface import Engine, Epoch, Job, Metrics, Notice
from .precision import PRECISIONS, why_unsupported

#: Time at least so many steps of each precision, and for so many seconds.
STEPS, SECONDS = 2, 0.2


def in_fastest_precision(kind: Callable[[Job], Engine], job: Job) -> Job:
    """The job in the precision whose steps take the least time, with a notice that says so.

    ``kind`` makes the engines that are measured, each over a copy of the network. Of several
    processes the first one's choice holds.
    """
    recipe, device = job.recipe, job.device
    few = job.train.head(recipe.batch_size)

    def seconds(precision: Precision) -> float:
        trial = dataclasses.replace(
            job,
            network=copy.deepcopy(job.network),
            recipe=recipe.but(precision=precision),
            train=few,
        )
        return _measured(kind(trial), len(few), device)

    taken = {p: seconds(p) for p in PRECISIONS if not why_unsupported(p, device)}
    release(device)
    best, *others = sorted(taken, key=taken.__getitem__)
    slower = "".join(f", in {p} {taken[p]:.3g} s" for p in others)
    message = (
        f"precision auto: a step in {best} takes {taken[best]:.3g} s{slower}. So {best} it is."
    )
    return dataclasses.replace(
        job,
        recipe=recipe.but(precision=job.processes.exchange(best)[0]),
        notices=(*job.notices, Notice("precision", message)),
    )


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
