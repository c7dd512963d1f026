"""The base of the modes that see every operation of PyTorch in the thread that uses them."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class DispatchMode(TorchDispatchMode):
    """PyTorch's own, without what would import its compiler at the first operation.

    That takes a second, which a short training hasn't got.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
