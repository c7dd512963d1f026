"""What a network's ``forward`` does, as a graph: what each way to find it out gives.

A network that is nothing but layers in order says so by itself (:mod:`.in_order`). What any other
``forward`` does is asked of TorchDynamo (:mod:`.own_forward`). Both are asked at every call, so
that whatever has changed since is in the graph; or there is none, and PyTorch computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import fx


@dataclass(frozen=True)
class Forward:
    """A call of a forward: its graph, and what the graph's placeholders stand for this time.

    The graph's functions are PyTorch's, and their weights are placeholders; a layer that isn't
    looked into is a module of the graph's. The graph is the same object as long as the forward does
    the same. A node's ``meta["layer"]`` is the path and the class of the layer that it belongs to,
    and ``meta["flattens"]`` says that it lays images flat. ``images`` is the first argument.
    """

    graph: fx.GraphModule
    inputs: tuple[Any, ...]
    images: Any


class View(Protocol):
    """A way to see a network's forward.

    Attributes:
        refusal: why the last :meth:`look` gave nothing; empty if it gave something.
    """

    refusal: str

    def look(self, *args: Any, **kwargs: Any) -> Forward | None:
        """What the forward does with these inputs, nothing of which is done meanwhile."""
