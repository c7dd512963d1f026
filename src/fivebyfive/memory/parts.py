"""What a training step holds at once, part by part."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import nn

from ..optimizers import OPTIMIZERS
from .training_step import Need


@dataclass(frozen=True)
class Memory:
    """What a training step holds at once, in bytes, part by part.

    ``weights`` include buffers, such as batch norm's statistics; ``activations`` are the tensors
    that autograd keeps for the backward pass, each once, without the weights and the images;
    ``workspace`` is what comes and goes on top of all that, at the worst moment.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    images: int
    workspace: int

    @classmethod
    def of(cls, network: nn.Module, optimizer: str, need: Need) -> Memory:
        """For ``network`` with the optimizer of that name, and what a batch needs."""
        gradients = sum(p.nbytes for p in network.parameters() if p.requires_grad)
        return cls(
            weights=sum(t.nbytes for t in (*network.parameters(), *network.buffers())),
            gradients=gradients,
            optimizer=OPTIMIZERS[optimizer].state * gradients,
            activations=need.activations,
            images=need.images,
            workspace=need.workspace,
        )

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(dataclasses.astuple(self))
