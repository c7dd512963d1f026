"""The door for users' own loops: the same network, with its blocks run by the kernels."""

from __future__ import annotations

import copy
import weakref
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..lib.torch_internals import being_compiled, hooked
from .finding import Found, find
from .fused_chain import FusedChain
from .library import kernels
from .tracing import holds, same, trace, traced_here


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
        return accelerate(copy.copy(_plain(self)))

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Copy and pickle as the plain network, accelerated again."""
        return accelerate, (_plain(self),)


def _twin_class(original: type[nn.Module]) -> type[nn.Module]:
    members = {
        "_original": original,
        "__doc__": original.__doc__,
        "__module__": original.__module__,
    }
    return type(original.__name__, (Accelerated, original), members)


def _plain(twin: Any) -> nn.Module:
    network: nn.Module = object.__new__(twin._original)
    network.__dict__ = twin.__dict__
    return network


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
        graph = trace(_plain(twin))
        fused = None if graph is None else fuse(graph)
        _traces[twin] = ((_structure if fused is None else holds)(twin), fused)
    return fused


def _structure(network: nn.Module) -> list[object]:
    """The modules, by what only one of them has, and their modes.

    Where nothing was fused only these are looked at: what else hangs on the modules may be another
    after each forward, and tracing takes longer than memory
    """
    return [each for module in network.modules() for each in (module._parameters, module.training)]


def fuses_convolutions(network: nn.Module) -> bool:
    """Whether any of the network's convolutions would run in the kernels."""
    fused = _fused(accelerate(network))
    chains = [m for m in fused.modules() if isinstance(m, FusedChain)] if fused else []
    return any(isinstance(block.layer, nn.Conv2d) for chain in chains for block in chain.blocks)


def forget_workspaces(network: nn.Module) -> None:
    """Let go of the memory that an accelerated network keeps from step to step."""
    _, fused = _traces.get(network, ([], None))
    for module in fused.modules() if fused else ():
        if isinstance(module, FusedChain):
            module.spare.clear()


#: Chains with more parameters stay in PyTorch: its blocked products are no slower on wide layers
#: (measured on AlexNet), and the kernels copy the weights into their own order at every step.
MOST_PARAMETERS = 4_000_000


def fuse(traced: fx.GraphModule) -> fx.GraphModule | None:
    """Put a :class:`FusedChain` in place of the chains found; ``None`` if there is none."""
    graph = traced.graph
    count = 0
    for found in list(find(traced)):
        if sum(p.numel() for b in found.blocks for p in b.parameters()) > MOST_PARAMETERS:
            continue
        fused = FusedChain(found.blocks, _alone(traced, found))
        traced.add_module(name := f"fused_chain_{count}", fused)
        first, last = found.nodes[0], found.nodes[-1]
        with graph.inserting_before(first):
            node = graph.call_module(name, (first.args[0],))
        last.replace_all_uses_with(node)
        for old in reversed(found.nodes):
            graph.erase_node(old)
        count += 1
    if not count:
        return None
    traced.recompile()
    return traced


def _alone(traced: fx.GraphModule, found: Found) -> fx.GraphModule:
    """A chain's part of a trace as a module of its own."""
    graph = fx.Graph()
    copies = {found.nodes[0].args[0]: graph.placeholder("x")}
    for node in found.nodes:
        copies[node] = graph.node_copy(node, lambda old: copies[old])
    graph.output(copies[found.nodes[-1]])
    return fx.GraphModule(traced, graph)
