"""How many bytes tensors take from moment to moment, counted storage by storage."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..lib.meta_device import tensors_in


class TensorLifetimes(TorchDispatchMode):
    """While it is on, sums up the storages that operations make, each until it is freed.

    What an operation merely looks at (weights, say) was there before and doesn't count. It works on
    the meta device too, where a storage has a size but no content. What an operation takes and
    gives back within itself isn't seen.

    Attributes:
        bytes: alive now.
        peak: the most that were alive at once.
        history: each storage made (its number, its bytes) or freed (its number, 0), in order.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self.peak = 0
        self.history: list[tuple[int, int]] = []
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in tensors_in([*args, *kwargs.values()]):
            self._note(tensor, counted=False)
        result = func(*args, **kwargs)
        for tensor in tensors_in(result):
            self._note(tensor, counted=True)
        self.peak = max(self.peak, self.bytes)
        return result

    def _note(self, tensor: Tensor, counted: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage_of(tensor)
        if key in self._known:
            return
        size = storage.nbytes() if counted else 0
        number = len(self.history)

        def forget(_: object) -> None:
            del self._known[key]
            if size:
                self.bytes -= size
                self.history.append((number, 0))

        self._known[key] = weakref.ref(storage, forget)
        if size:
            self.bytes += size
            self.history.append((number, size))


def storage_of(tensor: Tensor) -> int:
    """What tells a tensor's storage from every other that is alive."""
    # On the meta device all data pointers are zero, so it's the storage's own address.
    return int(tensor.untyped_storage()._cdata)
