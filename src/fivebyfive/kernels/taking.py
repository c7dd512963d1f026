"""Which tensors the kernels take: plain numbers in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..lib import private_draws
from ..lib.torch_internals import being_watched, in_memory


def plain_numbers(tensors: Sequence[Tensor]) -> bool:
    """Whether these are float32 in the CPU's memory that nobody but autograd follows."""
    return not being_watched(but=private_draws.active()) and all(
        type(t) in (Tensor, nn.Parameter)
        and t.dtype == torch.float32
        and t.device.type == "cpu"
        and t.layout == torch.strided
        and in_memory(t)
        for t in tensors
    )
