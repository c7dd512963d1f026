"""The layout in memory that convolutions' weights have in training."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..lib.modes import in_mode
from ..lib.private_draws import PrivateDraws
from .out_of_memory import is_out_of_memory


def lay_out(network: nn.Module, images: Tensor) -> list[nn.Parameter]:
    """Lay the weights of convolutions out channels last, where PyTorch is faster.

    A network that can't be run so stays as it was: one that uses ``view`` on a convolution's output
    counts on the usual layout. ``images`` are a few to try it with, on the network's device.

    Returns:
        The weights that lay in the usual layout before; :func:`lay_back` takes them.
    """
    convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    # A weight that is computed (spectral norm, say) is none, and may change when looked at.
    found = (module._parameters.get("weight") for module in convolutions)
    weights = [weight for weight in found if weight is not None]
    if not weights:
        return []
    usual = [weight for weight in weights if weight.is_contiguous()]
    before = [weight.data for weight in weights]
    for weight in weights:
        weight.data = weight.data.to(memory_format=torch.channels_last)
    try:
        with torch.no_grad(), PrivateDraws(0), in_mode(network, training=False):
            network(images)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        for weight, data in zip(weights, before, strict=True):
            weight.data = data
    return usual


def lay_back(weights: Iterable[nn.Parameter]) -> None:
    """Give the network back as it came: code after a training may use ``view`` on its weights."""
    for weight in weights:
        weight.data = weight.data.contiguous()
        if weight.grad is not None:
            weight.grad = weight.grad.contiguous()
