"""Recognising that memory ran out, and saying by how much."""

from __future__ import annotations

import re

import torch

from ..lib.errors import OutOfMemoryError
from ..lib.free_memory import free
from ..lib.units import size

#: What stands in the errors of those that don't raise PyTorch's own kind: its CPU allocator on
#: Linux and on Windows, its MPS allocator, CUDA itself and its libraries, C++, oneDNN, and PyTorch
#: where none of cuDNN's ways to compute a convolution finds the workspace it needs.
_TEXTS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "alloc_failed",
    "bad_alloc",
    "could not create a memory object",
    "could not create a primitive",
    "unable to find an engine",
)

_UNITS = {"bytes": 0, "k": 10, "m": 20, "g": 30, "t": 40}  # as powers of two


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on whatever device."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(each in text for each in _TEXTS)


def check(error: Exception, images: int, device: torch.device) -> None:
    """Let pass only that memory ran out with ``images`` at a time where fewer can be tried.

    Raises:
        OutOfMemoryError: it was a single image.
        Exception: ``error`` itself, if it is anything else.
    """
    if not is_out_of_memory(error):
        raise error
    if images == 1:
        raise OutOfMemoryError(explain(error, device, "with one image at a time")) from error


def explain(error: Exception, device: torch.device, when: str) -> str:
    """How much was asked for, how much is missing, and what to do."""
    asked, left = _asked(str(error)), free(device)
    amount = f": {size(asked)} more were asked for" if asked else f" ({error})"
    if asked and left is not None:
        amount += f" and {size(left)} are free"
        if asked > left:
            amount += f", so at least {size(asked - left)} are missing"
    return (
        f"out of memory on {device} even {when}{amount}. Close other programs that use it, take "
        f"smaller images (--resize) or a smaller network, or another device (--device)."
    )


def _asked(text: str) -> int | None:
    """The bytes that an allocator says it was asked for."""
    found = re.search(r"allocate ([\d.]+) ?(bytes|[KMGT])", text, re.IGNORECASE)
    return round(float(found[1]) * 2 ** _UNITS[found[2].lower()]) if found else None
