"""What hangs on a network, which a recorded step holds on to."""

from __future__ import annotations

import operator
from typing import Any

from torch import nn


def holds(network: nn.Module) -> list[object]:
    """What hangs on the network's modules.

    Parameters aren't looked at, as they are read anew each time.
    """
    return [
        value
        for module in network.modules()
        for value in (type(module), *vars(module).values(), *module._buffers.values())
    ]


def same(some: list[Any], others: list[Any]) -> bool:
    """Whether both hold the very same objects."""
    return len(some) == len(others) and all(map(operator.is_, some, others))
