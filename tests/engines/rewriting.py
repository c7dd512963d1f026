"""Comparing a rewritten network with its original."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN"
)


def gradients(network: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor | None]:
    """The output, and the gradients of the input and of the parameters."""
    network.zero_grad()
    x = x.detach().requires_grad_()
    out = network(x.clone())  # a ReLU in place can't start from a leaf
    if out.requires_grad:
        out.backward(upstream)
    return [out.detach(), x.grad, *(p.grad for p in network.parameters())]
