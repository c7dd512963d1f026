"""Comparing two engines."""

from __future__ import annotations

import torch

from fivebyfive.engines.eager import Eager


def same(one: Eager, other: Eager) -> None:
    """Weights, batch statistics and the optimizer's state are the same bits."""
    for states in (
        (one.network.state_dict(), other.network.state_dict()),
        (one.optimizer_state(), other.optimizer_state()),
    ):
        assert states[0].keys() == states[1].keys()
        for name, value in states[0].items():
            assert torch.equal(value, states[1][name]), name
