"""Training and evaluation mode, borrowed and given back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def in_mode(network: nn.Module, *, training: bool) -> Iterator[None]:
    """Put ``network`` in one mode for a while; afterwards every module has its own mode back.

    Modules may stand in different modes (a frozen batch norm in a network that trains), so the mode
    of each one is kept, not that of the whole.
    """
    before = {module: module.training for module in network.modules()}
    network.train(training)
    try:
        yield
    finally:
        for module, was_training in before.items():
            module.training = was_training
