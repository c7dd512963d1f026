"""Gradients by PyTorch, of what the kernels computed: to differentiate again, or in a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients(
    compute: Callable[..., Tensor],
    inputs: Sequence[Tensor | None],
    wanted: Sequence[bool],
    out_grad: Tensor,
) -> list[Tensor | None]:
    """The gradients of ``compute(*inputs)`` at the inputs that are ``wanted``; else ``None``.

    They can be differentiated again where gradients are recorded at the moment.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # One input may have been made of another: of aliases, none is. A view might have other
        # strides, with which PyTorch 2.13's batch norm gives wrong gradients.
        alias = torch.ops.aten.alias.default
        aliases = [None if each is None else alias(each) for each in inputs]
        by = [t for t, want in zip(aliases, wanted, strict=True) if want and t is not None]
        found = iter(torch.autograd.grad(compute(*aliases), by, out_grad, create_graph=again))
    return [next(found) if want else None for want in wanted]
