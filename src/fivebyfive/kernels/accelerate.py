"""The door for users' own loops: the same network, with its blocks run by the kernels."""

from __future__ import annotations

import copy
import weakref
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..lib.torch_internals import being_compiled, hooked
from .analysis import Analysis, analyse
from .finding import Segment
from .fused_chain import FusedChain
from .library import kernels
from .tracing import holds, same, traced_here


def accelerate(network: nn.Module) -> nn.Module:
    """Give ``network`` a twin that computes the same, faster on the CPU.

    The twin *is* the network but for its ``forward``: it shares parameters, buffers, submodules,
    hooks and mode, has the same ``state_dict`` keys, and is an instance of the same class. Where
    the kernels can't serve (another device or dtype, hooks on the layers inside, a layer they don't
    know, no kernels on this machine) PyTorch computes as before.

    What ``forward`` does is found by tracing it with :mod:`torch.fx`, again whenever something
    hangs on the network's modules that didn't before: another submodule, mode or setting. A
    ``forward`` that does more than a trace shows stays as it is; see :func:`.tracing.trace`. One
    that decides by something outside the network (a global variable) should not be accelerated.

    Raises:
        TypeError: ``network`` is no module.
    """
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise TypeError(f"the network is a {kind}; expected a torch.nn.Module.")
    if isinstance(network, Accelerated | torch.jit.ScriptModule | fx.GraphModule):
        return network  # the last two are classes of their own, which can't be derived from
    twin: nn.Module = object.__new__(_twin_class(type(network)))
    twin.__dict__ = network.__dict__
    return twin


class Accelerated:
    """Mixed into the class of every accelerated network."""

    _original: type[nn.Module]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network's own ``forward`` gives."""
        assert isinstance(self, nn.Module)
        # A trace stands for what is done to tensors.
        tensors = all(isinstance(each, Tensor) for each in (*args, *kwargs.values()))
        fused = _fused(self) if tensors and not traced_here() else None
        return (
            self._original.forward(self, *args, **kwargs)
            if fused is None
            else fused(*args, **kwargs)
        )

    def __copy__(self) -> nn.Module:
        """A twin of a shallow copy."""
        return accelerate(copy.copy(plain(self)))

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Copy and pickle as the plain network, accelerated again."""
        return accelerate, (plain(self),)


def _twin_class(original: type[nn.Module]) -> type[nn.Module]:
    members = {
        "_original": original,
        "__doc__": original.__doc__,
        "__module__": original.__module__,
    }
    return type(original.__name__, (Accelerated, original), members)


def plain(network: Any) -> nn.Module:
    """The network that a twin stands for; any other network as it is."""
    if not isinstance(network, Accelerated):
        return network  # type: ignore[no-any-return]
    original: nn.Module = object.__new__(network._original)
    original.__dict__ = network.__dict__
    return original


# One entry a twin: what hung on the network when it was traced, and what came of it.
_traces: weakref.WeakKeyDictionary[nn.Module, tuple[list[object], nn.Module | None]]
_traces = weakref.WeakKeyDictionary()


def _fused(twin: nn.Module) -> nn.Module | None:
    """The traced network with its chains fused; ``None`` where PyTorch should do it all."""
    if being_compiled() or kernels() is None:
        return None
    if any(map(hooked, list(twin.modules())[1:])):
        return None
    # Held, not only remembered by their ids: an id may be given to something else later.
    held, fused = _traces.get(twin, ([], None))
    if not same(held, (_structure if fused is None else holds)(twin)):
        fused = adopt(twin, analyse(plain(twin)))
    return fused


def adopt(twin: nn.Module, analysis: Analysis) -> nn.Module | None:
    """Fuse what was found in the network as it is now, and keep it for the twin's forwards."""
    fused = fuse(analysis)
    _traces[twin] = ((_structure if fused is None else holds)(twin), fused)
    return fused


def _structure(network: nn.Module) -> list[object]:
    """The modules, by what only one of them has, and their modes.

    Where nothing was fused only these are looked at: what else hangs on the modules may be another
    after each forward, and tracing takes longer than memory
    """
    return [each for module in network.modules() for each in (module._parameters, module.training)]


def forget_workspaces(network: nn.Module) -> None:
    """Let go of the memory that an accelerated network keeps from step to step."""
    _, fused = _traces.get(network, ([], None))
    for module in fused.modules() if fused else ():
        if isinstance(module, FusedChain):
            module.spare.clear()


def fuse(analysis: Analysis) -> fx.GraphModule | None:
    """The network with a :class:`FusedChain` for each segment; ``None`` if there is none."""
    traced, segments = analysis.graph, analysis.segments
    if traced is None or not segments:
        return None
    starts = {segment.nodes[0]: segment for segment in segments}
    inside = {node for segment in segments for node in segment.nodes}
    modules, graph = dict(traced.named_modules()), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in traced.graph.nodes:
        if node in starts:
            segment, name = starts[node], f"fused_chain_{node.name}"
            modules[name] = FusedChain(segment.blocks, _alone(traced, segment))
            copies[segment.nodes[-1]] = graph.call_module(name, (copies[node.args[0]],))
        elif node not in inside:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    return fx.GraphModule(modules, graph)


def _alone(traced: fx.GraphModule, segment: Segment) -> fx.GraphModule:
    """A segment's part of a trace as a module of its own."""
    graph = fx.Graph()
    copies = {segment.nodes[0].args[0]: graph.placeholder("x")}
    for node in segment.nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[segment.nodes[-1]])
    return fx.GraphModule(traced, graph)
