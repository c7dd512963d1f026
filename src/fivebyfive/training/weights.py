"""The weights a training starts from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..randomness import WEIGHTS, derive, kept
from ..recipes import Initialisation


def build_seeded(build: Callable[[], nn.Module], init: Initialisation, seed: int) -> nn.Module:
    """Build a network on the CPU with weights that are a function of the seed alone.

    The program's own random state is left as it was.
    """
    with kept(torch.device("cpu")):
        torch.manual_seed(derive(seed, WEIGHTS))
        network = build()
        initialise(network, init)
    return network


def initialise(network: nn.Module, init: Initialisation) -> None:
    """Draw new weights in place: ``xavier`` as the book does; ``default`` leaves what is there.

    Xavier's uniform initialisation (Glorot and Bengio, 2010) goes to the weights of linear and
    two-dimensional convolutional layers, of exactly these types; biases keep PyTorch's own.
    """
    if init == "default":
        return
    for module in network.modules():
        if type(module) is nn.Linear or type(module) is nn.Conv2d:
            nn.init.xavier_uniform_(module.weight)
