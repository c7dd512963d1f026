"""The recipe's optimizer in PyTorch, and its state by the names of the parameters."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

from ..lib.errors import NetworkError
from ..optimizers import OPTIMIZERS

#: What an optimizer keeps for each parameter, by what it is.
States = MutableMapping[Tensor, dict[str, Any]]


def make_optimizer(name: str, network: nn.Module, lr: float) -> torch.optim.Optimizer:
    """The optimizer called ``name`` over the trainable parameters."""
    spec = OPTIMIZERS[name]
    parameters = [p for p in network.parameters() if p.requires_grad]
    kind: type[Any] = getattr(torch.optim, spec.torch_name)
    optimizer: torch.optim.Optimizer = kind(parameters, lr=lr, **spec.keywords)
    return optimizer


def named_state(network: nn.Module, states: States) -> dict[str, Tensor]:
    """The tensors in ``states``, as ``<parameter>/<quantity>``."""
    return {
        f"{name}/{quantity}": value
        for name, parameter in network.named_parameters()
        for quantity, value in states.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_named_state(network: nn.Module, states: States, state: Mapping[str, Tensor]) -> None:
    """Put copies of what :func:`named_state` gave into ``states``.

    Raises:
        NetworkError: it belongs to another network.
    """
    parameters = dict(network.named_parameters())
    for key, value in state.items():
        name, _, quantity = key.rpartition("/")
        parameter = parameters.get(name)
        if parameter is None or value.shape not in (parameter.shape, ()):
            raise NetworkError(f"the optimizer's state {key} doesn't fit the network.")
        # A moment lies in memory as its parameter does, as the optimizer itself would lay it.
        like = parameter if value.shape == parameter.shape else value.to(parameter.device)
        states[parameter][quantity] = torch.empty_like(like, requires_grad=False).copy_(value)
