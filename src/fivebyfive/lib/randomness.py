"""All randomness, as pure functions of the seed and of where in the training one stands.

The order of an epoch depends on (seed, epoch) alone. An image's dropout depends on (seed, epoch,
the image's index, which dropout it is), whatever else a network draws on (seed, epoch, step, which
part of the batch). So neither evaluation, nor a listener, nor where a run was cut can change a
result.

A training draws from generators of its own (private_draws.py), so that others in threads of the
same process neither disturb it nor are disturbed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

# What a number is drawn for; the values are part of the results and never change.
WEIGHTS, ORDER, STEP, DROPOUT, TEST = 0, 1, 2, 3, 4

CPU = torch.device("cpu")


def derive(seed: int, purpose: int, *position: int) -> int:
    """A number below 2**63: unrelated for different arguments, the same for equal ones."""
    sequence = np.random.SeedSequence([seed, purpose, *position])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    """The order of ``count`` images in an epoch: a permutation, ``int64 [count]``, on the CPU."""
    generator = torch.Generator().manual_seed(derive(seed, ORDER, epoch))
    return torch.randperm(count, generator=generator)


@contextlib.contextmanager
def process_seeded(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Seed the process's generators of the CPU and of ``device``, and give their state back.

    Only for networks whose draws can't come from elsewhere: meanwhile other threads must not draw.
    """
    devices = [] if device.type == "cpu" else [_index(device)]
    with torch.random.fork_rng(devices=devices, device_type="cuda" if not devices else device.type):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.default_generators[_index(device)].manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield


def _index(device: torch.device) -> int:
    if device.index is not None:
        return device.index
    return torch.cuda.current_device() if device.type == "cuda" else 0
