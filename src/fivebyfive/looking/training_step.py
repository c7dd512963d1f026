"""One training step on the meta device: its FLOPs, and what is kept for the backward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import NetworkError
from ..modes import in_mode
from . import meta


@dataclass(frozen=True)
class Step:
    """For one batch: FLOPs of the forward and the backward pass, and bytes kept between them."""

    flops: int
    kept_bytes: int


def measure(network: nn.Module, shape: tuple[int, int, int], batch_size: int) -> Step:
    """Follow one step over ``batch_size`` images of ``shape`` (C, H, W), in training mode.

    The gradient for the images themselves isn't computed, as in a training. Every tensor that
    autograd keeps counts once, however often it is kept; weights and images don't count.

    Raises:
        NetworkError: the network raises in training mode.
    """
    state = meta.stand_ins(network)
    batch = meta.batch_of(network, shape, batch_size)
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Detached: a tensor that is kept by its own history would never be freed.
        tensor = tensor.detach()
        kept[_storage(tensor)] = tensor
        return tensor

    with in_mode(network, training=True), FlopCounterMode(display=False) as counter:
        if batch_size == 1:
            _spare_batch_norm(network)
        try:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                output = meta.forward(network, state, batch)
            scores = [t for t in meta.tensors_in(output) if t.requires_grad]
            if scores:
                torch.autograd.backward([score.sum() for score in scores])
        except Exception as error:  # a user's forward may raise anything
            raise NetworkError(
                f"the network runs in evaluation mode but not in training mode, with a batch of "
                f"{batch_size}: {type(error).__name__}: {error}"
            ) from error
    activations = kept.keys() - {_storage(tensor) for tensor in (batch, *state.values())}
    kept_bytes = sum(kept[key].untyped_storage().nbytes() for key in activations)
    return Step(counter.get_total_flops(), kept_bytes)


def _spare_batch_norm(network: nn.Module) -> None:
    # In training it refuses a single value a channel. What it keeps is all but the same either way.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.eval()


def _storage(tensor: Tensor) -> int:
    # On the meta device all data pointers are zero, so the storage's own address tells them apart.
    return int(tensor.untyped_storage()._cdata)
