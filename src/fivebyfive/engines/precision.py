"""In which precision the products are computed: float32, bfloat16 or TensorFloat-32.

Weights, gradients, the optimizer, the loss and all sums are float32 in each of them. ``fp32`` is
just that, on cards too, where PyTorch by itself lets convolutions and recurrent layers round to
TensorFloat-32.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch

from ..lib.errors import DeviceError
from ..recipes import Precision

#: All there are; a device needn't have all of them.
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "tf32")


class PrecisionContext:
    """One precision on one device.

    Raises:
        DeviceError: the device doesn't compute in it.
    """

    def __init__(self, precision: Precision, device: torch.device) -> None:
        reason = why_unsupported(precision, device)
        if reason:
            here = ", ".join(p for p in PRECISIONS if not why_unsupported(p, device))
            raise DeviceError(
                f"precision {precision} isn't available on {device}: {reason}. "
                f"Here there are: {here}."
            )
        self._precision = precision
        self._device = device

    def stepping(self) -> AbstractContextManager[None]:
        """For steps and tests: how the device multiplies float32 meanwhile."""
        if self._device.type != "cuda":
            return contextlib.nullcontext()
        return rounding_to_tf32(self._precision == "tf32")

    def forward(self) -> AbstractContextManager[Any]:
        """For the network's forward alone: PyTorch's autocast, if the precision needs it."""
        if self._precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)


def why_unsupported(precision: Precision, device: torch.device) -> str:
    """Why ``device`` can't compute in ``precision``; empty if it can."""
    if precision == "bf16":
        return "" if _has_bf16(device) else "it has no instructions for bfloat16"
    if precision == "tf32":
        return "" if _has_tf32(device) else "only CUDA cards since Ampere (2020) have it"
    return ""


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


@contextlib.contextmanager
def rounding_to_tf32(rounding: bool) -> Iterator[None]:
    """Let CUDA round the factors of float32 products to TensorFloat-32, or not, for a while.

    The switches are the whole process's. Threads that want them alike share them; one that wants
    them otherwise waits until those are done, and nobody joins them before it has had its turn.
    """
    with _TURNS.taken(rounding):
        yield


class _Turns:
    """Who uses the switches now, and who waits to have them otherwise."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._users, self._rounding = 0, False
        self._waiting = Counter[bool]()
        self._put_back = contextlib.ExitStack()

    @contextlib.contextmanager
    def taken(self, rounding: bool) -> Iterator[None]:
        """Have the switches so, and nobody change them meanwhile."""
        with self._changed:
            self._waiting[rounding] += 1
            try:
                self._changed.wait_for(lambda: self._may_join(rounding))
            finally:
                self._waiting[rounding] -= 1
            if not self._users:
                self._put_back.enter_context(_switched(rounding))
            self._users, self._rounding = self._users + 1, rounding
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                if not self._users:
                    self._put_back.close()
                self._changed.notify_all()

    def _may_join(self, rounding: bool) -> bool:
        alike = self._rounding is rounding and not self._waiting[not rounding]
        return not self._users or alike


_TURNS = _Turns()


@contextlib.contextmanager
def _switched(rounding: bool) -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    switches: list[tuple[Any, str, Any]]
    if hasattr(cudnn, "conv"):  # PyTorch 2.9 and later, which warn of the older switches
        kind = "tf32" if rounding else "ieee"
        places = (matmul, cudnn.conv, cudnn.rnn)
        switches = [(place, "fp32_precision", kind) for place in places]
    else:
        switches = [(matmul, "allow_tf32", rounding), (cudnn, "allow_tf32", rounding)]
    before = [getattr(place, name) for place, name, _ in switches]
    try:
        for place, name, value in switches:
            setattr(place, name, value)
        yield
    finally:
        for (place, name, _), value in zip(switches, before, strict=True):
            setattr(place, name, value)
