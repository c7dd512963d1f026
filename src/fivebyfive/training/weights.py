"""The weights a training starts from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..lib.modes import in_mode
from ..lib.private_draws import PrivateDraws
from ..lib.randomness import WEIGHTS, derive
from ..recipes import Initialisation


def build_seeded(
    build: Callable[[], nn.Module], init: Initialisation, seed: int, images: Tensor
) -> nn.Module:
    """Build a network on the CPU with weights that are a function of the seed alone.

    ``images`` are a few of those it will see: lazy layers take their shapes from them. The
    process's generators are neither read nor moved; a builder that seeds them changes nothing here.
    """
    with PrivateDraws(derive(seed, WEIGHTS)):
        network = build()
        if any(is_lazy(tensor) for tensor in (*network.parameters(), *network.buffers())):
            with torch.no_grad(), in_mode(network, training=False):
                network(images)
        initialise(network, init)
    return network


def initialise(network: nn.Module, init: Initialisation) -> None:
    """Draw new weights in place: ``xavier`` as the book does; ``default`` leaves what is there.

    Xavier's uniform initialisation (Glorot and Bengio, 2010) goes to the weights of linear and
    two-dimensional convolutional layers, of exactly these types; biases keep PyTorch's own, and
    frozen weights stay.
    """
    if init == "default":
        return
    for module in network.modules():
        if not (type(module) is nn.Linear or type(module) is nn.Conv2d):
            continue
        if module.weight.requires_grad:
            nn.init.xavier_uniform_(module.weight)
