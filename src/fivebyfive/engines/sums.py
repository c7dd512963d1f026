"""Sums of losses and of right answers, kept on the device until a stretch is over."""

from __future__ import annotations

import torch
from torch import Tensor

from .interface import Metrics


def zeros(device: torch.device) -> Tensor:
    """Room for both sums."""
    # Apple's devices have no float64.
    exact = torch.float32 if device.type == "mps" else torch.float64
    return torch.zeros(2, dtype=exact, device=device)


def add(sums: Tensor, scores: Tensor, labels: Tensor, loss: Tensor) -> None:
    """Add a batch's loss (summed over its images) and right answers to ``sums``, on the device."""
    sums[0] += loss
    sums[1] += (scores.argmax(1) == labels).sum()


def read(sums: Tensor, count: int) -> Metrics:
    """Read the sums back: the one wait for the device in a stretch."""
    loss, correct = sums.tolist()
    return Metrics(loss, int(correct), count)
