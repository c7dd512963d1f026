"""Keeping large buffers between steps, and giving them back when memory is short.

On cards PyTorch keeps them by itself. On a CPU glibc's malloc takes buffers above a threshold fresh
from the system and gives them back at once, so a training loop pays for zeroing and mapping the
same pages at every step: it halves LeNet's speed. Two of malloc's settings make it keep them. They
hold for the whole process.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import platform
import sys

import torch

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@functools.cache
def keep_large_buffers() -> bool:
    """Tell malloc to serve large buffers from the heap and not to shrink it; once a process.

    Returns:
        Whether it could be done: only on Linux with glibc, where it is needed.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    never = 2**31 - 1
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, never))


def prepare(device: torch.device) -> None:
    """What a training's memory needs before it: on a CPU, that large buffers are kept.

    On a card cuBLAS takes now what it will keep, in the current stream: a workspace for this thread
    and one for that which computes gradients. They can be larger than all that a LeNet takes, and
    so whoever asks what is held sees them.
    """
    if device.type == "cpu":
        keep_large_buffers()
    elif device.type == "cuda":
        one = torch.ones(1, 1, device=device, requires_grad=True)
        (one @ one).backward()


def release(device: torch.device) -> None:
    """Give back what is kept of ``device``'s memory but not in use, after it ran out."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    else:
        trim()


def trim() -> None:
    """Give back what malloc keeps but nobody uses, where other buffers will be needed next."""
    if keep_large_buffers():
        ctypes.CDLL(None).malloc_trim(0)
