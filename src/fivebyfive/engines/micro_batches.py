"""Computing a batch in parts where memory doesn't allow it whole.

The parts' gradients are added up before the optimizer takes its one step, and every part's loss is
divided by the size of the whole batch: so the step is the one of the recipe, whatever the split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..lib.errors import RecipeError
from ..lib.torch_internals import normalises
from .interface import Notice
from .out_of_memory import check

T = TypeVar("T")


def parts(batch: Tensor, at_most: int) -> tuple[Tensor, ...]:
    """Split along the first dimension: as few parts as can be, as equal as can be."""
    return batch.tensor_split(max(1, -(-len(batch) // at_most)))


def checked(micro_batch: int | None, batch_size: int) -> int:
    """How many images to compute at a time; ``None`` means the whole batch.

    Raises:
        RecipeError: it isn't between 1 and the batch size.
    """
    if micro_batch is None:
        return batch_size
    if isinstance(micro_batch, bool) or not isinstance(micro_batch, int) or micro_batch < 1:
        raise RecipeError(f"micro_batch is {micro_batch!r}; expected a whole number of at least 1.")
    if micro_batch > batch_size:
        raise RecipeError(
            f"micro_batch is {micro_batch}, more than the {batch_size} images of a batch; expected "
            f"at most {batch_size}. A larger batch is another recipe: --batch-size."
        )
    return micro_batch


def until_it_fits(
    compute: Callable[[int], T], at_most: int, device: torch.device, *after: Callable[[], None]
) -> tuple[T, int]:
    """Compute with ``at_most`` images at a time or, while memory runs out, with half as many.

    Args:
        compute: called with the number of images at a time.
        at_most: the number to begin with.
        device: whose memory it is.
        after: called after each failure, to put back what ``compute`` may have changed and to give
            back what can be.

    Returns:
        What ``compute`` gave, and how many images at a time it was.

    Raises:
        OutOfMemoryError: not even one at a time fits.
    """
    while True:
        try:
            return compute(at_most), at_most
        except (RuntimeError, MemoryError) as error:
            check(error, at_most, device)
        # Only out here is the error gone, and with its traceback what the failed attempt held.
        for each in after:
            each()
        at_most //= 2


class Snapshot:
    """Puts back what a step that fails midway may have changed.

    Batch statistics move in the forward. The weights need no copy: the optimizers write the first
    of them when all the memory they need is there (see :mod:`fivebyfive.optimizers`); but Adam may
    have made some of its moments by then, and would take them for complete at its next attempt.
    """

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
        self._optimizer = optimizer
        self._complete = {parameter for parameter, state in optimizer.state.items() if state}

    def __call__(self) -> None:
        """Undo the step, and drop its gradients."""
        put_back(self._buffers)
        self._optimizer.zero_grad()
        for parameter in self._optimizer.state.keys() - self._complete:
            del self._optimizer.state[parameter]


@torch.no_grad()
def put_back(buffers: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Make buffers what they were; a forward may change their shapes, too, or make others."""
    for buffer, before in buffers:
        if buffer.shape != before.shape:
            buffer.resize_(before.shape)
        buffer.copy_(before)


def in_parts(tried: int, fits: int, whole: int) -> Notice:
    """The line for a training whose batches of ``whole`` images are split from here on."""
    message = (
        f"out of memory at {tried} images at a time: from here on {split_in_words(whole, fits)}, "
        f"with the gradients added up; the batch and its mathematics stay."
    )
    return Notice("out-of-memory", message)


def test_in_parts(tried: int, fits: int) -> Notice:
    """The line for tests that are computed in smaller batches from here on."""
    message = (
        f"out of memory in the test at {tried} images at a time: from here on "
        f"{split_in_words(tried, fits)}. The result stays."
    )
    return Notice("out-of-memory", message)


def warnings(network: nn.Module, micro_batch: int, whole: int) -> list[Notice]:
    """What there is to say of a split, where it does change the mathematics."""
    if micro_batch == whole or not normalises(network):
        return []
    message = (
        f"this network normalises over the images that are computed together, now at most "
        f"{micro_batch} instead of {whole}: that changes its results."
    )
    return [Notice("batch-statistics", message)]


def split_in_words(count: int, at_most: int) -> str:
    """How ``count`` images are split, in words: ``4 × 32``, or ``3 × 34 or 33``."""
    number = -(-count // at_most)
    least, rest = divmod(count, number)
    return f"{number} × {least + 1} or {least}" if rest else f"{number} × {least}"
