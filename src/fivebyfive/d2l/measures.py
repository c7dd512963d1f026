"""What the book measures a training by: sums, seconds and the share of right answers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..lib.errors import DataError
from .data import near
from .tensors import number

#: A network, or in the book's third chapter a plain function: images in, scores out.
Net = Callable[[Any], Tensor]


class Timer:
    """A stopwatch that keeps every time it was stopped at, in seconds."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.start()

    def start(self) -> None:
        """Start, or start over; making a timer starts it too."""
        self.tik = time.perf_counter()

    def stop(self) -> float:
        """The seconds since the start, which are kept."""
        self.times.append(time.perf_counter() - self.tik)
        return self.times[-1]

    def avg(self) -> float:
        """The mean of the times kept."""
        return sum(self.times) / len(self.times)

    def sum(self) -> float:
        """The sum of the times kept."""
        return sum(self.times)

    def cumsum(self) -> list[float]:
        """The sum up to and including each time."""
        return list(itertools.accumulate(self.times))


class Accumulator:
    """``n`` running sums."""

    def __init__(self, n: int) -> None:
        self.data = [0.0] * n

    def add(self, *args: Any) -> None:
        """Add a number, or a tensor with one number, to each of the sums."""
        self.data = [old + number(new) for old, new in zip(self.data, args, strict=False)]

    def reset(self) -> None:
        """Set all sums to zero."""
        self.data = [0.0] * len(self.data)

    def __getitem__(self, idx: int) -> float:
        return self.data[idx]


def accuracy(y_hat: Tensor, y: Tensor) -> float:
    """How many predictions are right: a number of images, not a share.

    Args:
        y_hat: scores ``[N, classes]``, or predicted classes of ``y``'s shape.
        y: the true classes, ``[N]``.
    """
    return float(right_answers(y_hat, y))


def right_answers(y_hat: Tensor, y: Tensor) -> Tensor:
    """:func:`accuracy` as a tensor that stays on its device."""
    if y_hat.dim() > 1 and y_hat.shape[1] > 1:
        y_hat = y_hat.argmax(1)
    return (y_hat.type(y.dtype) == y).sum()


def evaluate_accuracy(net: Net, data_iter: Iterable[tuple[Any, Tensor]]) -> float:
    """The share of right answers over all batches, computed where the batches are.

    A module is left in evaluation mode, as the book leaves it.

    Raises:
        DataError: there was no batch.
    """
    if isinstance(net, nn.Module):
        net.eval()
    return _share_right(net, data_iter, device=None)


def evaluate_accuracy_gpu(
    net: Net,
    data_iter: Iterable[tuple[Any, Tensor]],
    device: torch.device | str | None = None,
) -> float:
    """The share of right answers over all batches, computed on ``device``.

    Without a ``device`` it is the one that the module's first parameter lies on. A batch's X may be
    a list of tensors. A module is left in evaluation mode, as the book leaves it.

    Raises:
        DataError: there was no batch.
    """
    if isinstance(net, nn.Module):
        net.eval()
        device = device or next((p.device for p in net.parameters()), None)
    return _share_right(net, data_iter, device)


@torch.no_grad()
def _share_right(
    net: Net, data_iter: Iterable[tuple[Any, Tensor]], device: torch.device | str | None
) -> float:
    right: Tensor | int = 0
    count = 0
    for inputs, labels in near(data_iter, device):
        # A sum on the device: nothing is read back before the last batch.
        right = right + right_answers(net(inputs), labels)
        count += labels.numel()
    if count == 0:
        raise DataError("the data iterator gave no batch; expected at least one to evaluate on.")
    return float(right) / count
