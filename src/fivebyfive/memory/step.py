"""One step on the meta device: its FLOPs, and the memory that PyTorch's layers take for it.

There tensors have a size and no content. Every tensor that an operation makes counts until it is
freed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..lib import meta_device as meta
from ..lib.dispatch_mode import DispatchMode
from ..lib.errors import NetworkError
from ..lib.flops import FlopCounter
from ..lib.modes import in_mode
from ..optimizers import OPTIMIZERS


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
    activations: int = 0
    images: int = 0
    workspace: int = 0

    @classmethod
    def lasting(cls, network: nn.Module, optimizer: str) -> Memory:
        """What is held from step to step, with the optimizer of that name."""
        gradients = sum(p.nbytes for p in network.parameters() if p.requires_grad)
        weights = sum(t.nbytes for t in (*network.parameters(), *network.buffers()))
        return cls(weights, gradients, OPTIMIZERS[optimizer].state * gradients)

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(dataclasses.astuple(self))

    @property
    def batch(self) -> int:
        """What a batch adds to what is held from step to step."""
        return self.activations + self.images + self.workspace


def measure(
    network: nn.Module,
    shape: tuple[int, int, int],
    batch_size: int,
    optimizer: str = "sgd",
    *,
    bf16: bool = False,
) -> tuple[Memory, int]:
    """Follow one step over ``batch_size`` images of ``shape`` (C, H, W), in training mode.

    The gradient for the images themselves isn't computed, as in a training. With ``bf16`` products
    are computed in bfloat16, as by ``torch.autocast``.

    Returns:
        The memory, and the FLOPs of the forward and the backward pass.

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
        FlopCounter() as counter,
        AllocationTracker() as tracker,
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
            scores = [tensor for tensor in meta.tensors_in(output) if tensor.requires_grad]
            if scores:
                torch.autograd.backward([score.sum() for score in scores])
        except Exception as error:  # a user's forward may raise anything
            raise NetworkError(
                f"the network runs in evaluation mode but not in training mode, with a batch of "
                f"{batch_size}: {type(error).__name__}: {error}"
            ) from error
    lasting = Memory.lasting(network, optimizer)
    images, activations = batch.nbytes, sum(kept.values())
    # Where gradients come late and activations go early there is less at once than the sum.
    workspace = max(0, tracker.peak - images - activations - lasting.gradients)
    memory = dataclasses.replace(
        lasting, activations=activations, images=images, workspace=workspace
    )
    return memory, counter.total


@torch.no_grad()
def measure_test(
    network: nn.Module, shape: tuple[int, int, int], batch_size: int, *, bf16: bool = False
) -> int:
    """The most bytes beside the weights while ``batch_size`` images are tested on."""
    state, tracker = meta.stand_ins(network), AllocationTracker()
    with in_mode(network, training=False), tracker, _precision(bf16):
        meta.forward(network, state, meta.batch_of(network, shape, batch_size))
    return tracker.peak


class AllocationTracker(DispatchMode):
    """While it is on, sums up the storages that operations make, each until it is freed.

    What an operation merely looks at (weights, say) was there before and doesn't count. What it
    takes and gives back within itself isn't seen.

    Attributes:
        bytes: alive now.
        peak: the most that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def see(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Do the operation."""
        for tensor in meta.tensors_in([*args, *kwargs.values()]):
            self._note(tensor, counted=False)
        result = func(*args, **kwargs)
        for tensor in meta.tensors_in(result):
            self._note(tensor, counted=True)
        self.peak = max(self.peak, self.bytes)
        return result

    def _note(self, tensor: Tensor, counted: bool) -> None:
        storage, key = tensor.untyped_storage(), storage_of(tensor)
        if key in self._known:
            return
        size = storage.nbytes() if counted else 0

        def forget(_: object) -> None:
            del self._known[key]
            self.bytes -= size

        self._known[key] = weakref.ref(storage, forget)
        self.bytes += size


def storage_of(tensor: Tensor) -> int:
    """What tells a tensor's storage from every other that is alive."""
    # On the meta device all data pointers are zero, so it's the storage's own address.
    return int(tensor.untyped_storage()._cdata)


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
