"""The door for users' own loops: the same network, with what they can run of it in the kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..lib.torch_internals import being_compiled, being_watched, changed_calls
from . import in_order, own_forward
from .analysis import Analysis, analyse, refused
from .channels_last import Convolution, Normalisation
from .forward import Forward, View
from .fused_chain import FusedChain
from .fusing import fuse
from .library import kernels, report


def accelerate(network: nn.Module) -> nn.Module:
    """Let the kernels compute what calling ``network`` gives, faster on the CPU; returns it.

    The network stays the object it is, of its own class. What runs is chosen anew at each call, and
    whatever was done to the network meanwhile is followed. Where the kernels can't serve (another
    device or dtype, hooks, layers they don't know, a forward that does more than give a tensor, no
    kernels on this machine) PyTorch computes as before; copies and pickles are of the plain
    network. As with ``network.compile()``, it is calls of the network itself that are changed, not
    of its ``forward``.

    Raises:
        TypeError: ``network`` is no module.
    """
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise TypeError(f"the network is a {kind}; expected a torch.nn.Module.")
    scripted = isinstance(network, torch.jit.ScriptModule)
    if not scripted and not hasattr(network._compiled_call_impl, _MARK):
        # Where PyTorch looks for another way to call this one module. It isn't copied or pickled.
        network._compiled_call_impl = _call(network)
    return network


_MARK = "calls_accelerated"


def _call(network: nn.Module) -> Callable[..., Any]:
    """What an accelerated network is called by: a function, as what reads modules expects."""
    fused = Fused(network)

    def call(*args: Any, **kwargs: Any) -> Any:
        run = None
        if _all_plain(args, kwargs) and not (
            being_compiled() or being_watched() or changed_calls()
        ):
            run = fused.look(*args, **kwargs)
        return network._call_impl(*args, **kwargs) if run is None else run()

    setattr(call, _MARK, True)
    return call


def _all_plain(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether no argument is a tensor of another kind, or stands for one in a trace."""
    return all(
        type(each) in (Tensor, nn.Parameter) or not isinstance(each, Tensor | fx.Proxy)
        for each in (*args, *kwargs.values())
    )


class Fused:
    """A network's forward with the chains in it fused, as it is at each call.

    Attributes:
        view: where the forward is seen.
        graph: what was seen last; ``None`` where nothing was.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        own = not in_order.says_all(network)
        self.view: View
        self.view = own_forward.OwnForward(network) if own else in_order.InOrder(network)
        self.graph: fx.GraphModule | None = None
        self._known: list[tuple[fx.GraphModule, Analysis, fx.GraphModule | None]] = []

    def look(self, *args: Any, **kwargs: Any) -> Callable[[], Any] | None:
        """What runs the forward on these inputs; ``None`` where PyTorch should do it all."""
        self.graph = None
        # Under autocast all is PyTorch's: the kernels compute in float32.
        if kernels() is None or torch.is_autocast_enabled("cpu"):
            return None
        forward = self.view.look(*args, **kwargs)
        self.graph = None if forward is None else forward.graph
        if forward is None:
            return None
        _, fused = self._find(forward)
        # Its forward itself: called as a module, fx would print a traceback of each error.
        return None if fused is None else functools.partial(fused.forward, *forward.inputs)

    def analyse(self, images: Tensor) -> Analysis:
        """What the kernels run of the network on such images."""
        if kernels() is None:
            return refused(self._network, f"no kernels on this machine: {report().reason}")
        forward = self.view.look(images)
        if forward is None:
            return refused(self._network, self.view.refusal)
        return self._find(forward)[0]

    def _find(self, forward: Forward) -> tuple[Analysis, fx.GraphModule | None]:
        for graph, analysis, fused in self._known:
            if graph is forward.graph:
                return analysis, fused
        analysis = analyse(forward)
        fused = fuse(analysis)
        # A few, since modes and shapes may take turns.
        self._known = [*self._known[-7:], (forward.graph, analysis, fused)]
        return analysis, fused

    def forget_workspaces(self) -> None:
        """Let go of the memory that is kept from step to step."""
        for _, _, fused in self._known:
            for module in fused.modules() if fused else ():
                if isinstance(module, FusedChain):
                    module.spare.clear()
                elif isinstance(module, Convolution | Normalisation):
                    module.workspaces.forget()
