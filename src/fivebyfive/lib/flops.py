"""Counting the floating-point operations of whatever PyTorch computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.flop_counter import flop_registry

from .dispatch_mode import DispatchMode


class FlopCounter(DispatchMode):
    """While it is on, adds up in ``total`` the FLOPs of convolutions, products and attention.

    The counts are PyTorch's own. Its ``FlopCounterMode`` would also put hooks on every module of
    the process, and so take other threads' networks out of the kernels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def see(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Do the operation."""
        count = flop_registry.get(func._overloadpacket)
        if count is None:
            with self:  # what it is made of is counted, if anything
                result = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if result is NotImplemented else result
        result = func(*args, **kwargs)
        self.total += count(*args, **kwargs, out_val=result)
        return result
