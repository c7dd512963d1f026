"""One step on the meta device: its FLOPs, and the memory it takes beside the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ..lib import meta_device as meta
from ..lib.errors import NetworkError
from ..lib.modes import in_mode
from .tensor_lifetimes import TensorLifetimes, storage_of


@dataclass(frozen=True)
class Need:
    """Bytes for one batch: its images as the network sees them, and what is made of them.

    ``activations`` are the tensors that are kept for the backward pass, each once, without the
    weights and the images; ``workspace`` is what comes and goes on top of all that and of the
    gradients, at the worst moment.
    """

    images: int
    activations: int
    workspace: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.images + self.activations + self.workspace


@dataclass(frozen=True)
class Step:
    """For one batch: FLOPs of the forward and the backward pass, and the memory.

    ``peak`` is the most bytes at once beside the weights, ``history`` who took and freed how many,
    gradients still taken; see :class:`~fivebyfive.memory.tensor_lifetimes.TensorLifetimes`.
    """

    flops: int
    need: Need
    peak: int
    history: tuple[tuple[int, int], ...] = field(repr=False)


def measure(
    network: nn.Module,
    shape: tuple[int, int, int],
    batch_size: int,
    *,
    again: bool = False,
    bf16: bool = False,
) -> Step:
    """Follow one step over ``batch_size`` images of ``shape`` (C, H, W), in training mode.

    The gradient for the images themselves isn't computed, as in a training. With ``again`` the
    workspace is that of the second of several such batches, whose gradients are added to the
    first's. With ``bf16`` products are computed in bfloat16, as by ``torch.autocast``.

    Raises:
        NetworkError: the network raises in training mode.
    """
    state = meta.stand_ins(network)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[storage_of(tensor)] = tensor.untyped_storage().nbytes()
        # Detached: a tensor that is kept by its own history would never be freed.
        return tensor.detach()

    with (
        in_mode(network, training=True),
        FlopCounterMode(display=False) as counter,
        TensorLifetimes() as live,
    ):
        if batch_size == 1:
            _spare_batch_norm(network)
        try:
            batch = meta.batch_of(network, shape, batch_size)
            saving = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
            with saving, _precision(bf16):
                output = meta.forward(network, state, batch)
            for tensor in (batch, *state.values()):
                kept.pop(storage_of(tensor), None)
            _backward(output)
            flops = counter.get_total_flops()
            if again:
                with _precision(bf16):
                    output = meta.forward(network, state, batch)
                _backward(output)
        except Exception as error:  # a user's forward may raise anything
            raise NetworkError(
                f"the network runs in evaluation mode but not in training mode, with a batch of "
                f"{batch_size}: {type(error).__name__}: {error}"
            ) from error
    images, activations = batch.nbytes, sum(kept.values())
    gradients = sum(p.nbytes for p in network.parameters() if p.requires_grad)
    workspace = live.peak - images - activations - gradients
    # Where gradients come late and activations go early there is less at once than the sum.
    return Step(flops, Need(images, activations, max(0, workspace)), live.peak, tuple(live.history))


@torch.no_grad()
def measure_test(
    network: nn.Module, shape: tuple[int, int, int], batch_size: int, *, bf16: bool = False
) -> TensorLifetimes:
    """The tensors beside the weights while ``batch_size`` images are tested on."""
    state, live = meta.stand_ins(network), TensorLifetimes()
    with in_mode(network, training=False), live, _precision(bf16):
        meta.forward(network, state, meta.batch_of(network, shape, batch_size))
    return live


def _backward(output: object) -> None:
    scores = [tensor for tensor in meta.tensors_in(output) if tensor.requires_grad]
    if scores:
        torch.autograd.backward([score.sum() for score in scores])


def _spare_batch_norm(network: nn.Module) -> None:
    # In training it refuses a single value a channel. What it keeps is all but the same either way.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.eval()


def _precision(bf16: bool) -> AbstractContextManager[object]:
    return _Bfloat16() if bf16 else contextlib.nullcontext()


class _Bfloat16(TorchFunctionMode):
    """What ``torch.autocast`` does, which knows nothing of the meta device: bfloat16 products."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _PRODUCTS:
            return func(*args, **kwargs)
        return func(*map(_lowered, args), **{key: _lowered(each) for key, each in kwargs.items()})


_PRODUCTS = {
    F.linear, torch.conv1d, torch.conv2d, torch.conv3d, torch.matmul, torch.bmm, torch.mm,
    torch.addmm, Tensor.matmul, Tensor.__matmul__,
}  # fmt: skip


def _lowered(value: Any) -> Any:
    lower = isinstance(value, Tensor) and value.dtype == torch.float32
    return value.to(torch.bfloat16) if lower else value
