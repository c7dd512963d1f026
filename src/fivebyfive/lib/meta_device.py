"""Running a network on PyTorch's meta device: shapes and types only, no memory, no arithmetic.

The network's own parameters are never copied or moved. For the time of one call each of them is
swapped for a tensor on the meta device (:func:`torch.func.functional_call`), so that the network
doesn't even notice, and statistics it keeps (batch norm's) are written to the stand-ins.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from .errors import NetworkError
from .private_draws import PrivateDraws

META = torch.device("meta")


def stand_ins(network: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by its name, as an empty tensor on the meta device.

    Raises:
        NetworkError: the network is lazy, so that its shapes aren't decided yet, or compiled by
            TorchScript, so that nobody can look inside.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise NetworkError(
            "a part of the network is compiled by TorchScript, which can't be read. Give "
            "the network as it was before torch.jit."
        )
    state: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        if is_lazy(parameter):
            raise NetworkError(
                f"the shape of {name!r} isn't decided yet (a lazy layer). Pass one batch of images "
                "through the network first, then ask again."
            )
        empty = torch.empty_like(parameter, device=META)
        state[name] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for name, buffer in network.named_buffers():
        state[name] = torch.empty_like(buffer, device=META)
    return state


def batch_of(network: nn.Module, shape: tuple[int, int, int], size: int) -> Tensor:
    """An input batch ``[size, C, H, W]`` of the network's own floating type."""
    floating = (p.dtype for p in network.parameters() if p.is_floating_point())
    return torch.empty(size, *shape, dtype=next(floating, torch.float32), device=META)


def forward(network: nn.Module, state: dict[str, Tensor], batch: Tensor) -> Any:
    """One forward pass on the meta device, with the process's generators left where they are.

    Raises:
        Exception: whatever the network's ``forward`` raises.
    """
    with META, PrivateDraws(0):
        return functional_call(network, state, (batch,))


def runs(network: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Whether the network takes images of this shape."""
    try:
        with torch.no_grad():
            forward(network, stand_ins(network), batch_of(network, shape, 1))
    except Exception:  # a user's forward may raise anything
        return False
    return True


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in a value made of tuples, lists and dictionaries, from left to right."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return []
    return [tensor for item in value for tensor in tensors_in(item)]
