"""The door for users' own loops: the same network, with its blocks run by the kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..lib.torch_internals import being_compiled, being_watched, changed_calls
from . import in_order, own_forward
from .analysis import Analysis, analyse, refused
from .channels_last import (
    Convolution,
    Normalisation,
    Operation,
    Workspaces,
    follows,
    settled,
)
from .finding import Segment
from .forward import Forward, View
from .fused_chain import FusedChain
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


def fuse(analysis: Analysis) -> fx.GraphModule | None:
    """The forward with a module for each segment and operation; ``None`` if there is none."""
    seen = analysis.graph
    if seen is None or not (analysis.segments or analysis.operations):
        return None
    workspaces = Workspaces()
    modules, graph = dict(seen._modules), fx.Graph()
    calls: dict[fx.Node, tuple[nn.Module, Sequence[Any]]] = {}
    inside: set[fx.Node] = set()
    for segment in analysis.segments:
        chain = FusedChain(segment.blocks, _alone(seen, segment), segment.flattens)
        calls[segment.nodes[-1]] = chain, (segment.input, *segment.parameters)
        inside.update(segment.nodes)
    for operation in analysis.operations:
        calls[operation.nodes[-1]] = operation.make(workspaces), operation.inputs
        inside.update(operation.nodes)
    layout = _Layout(seen.graph, graph, analysis.operations)
    copies: dict[fx.Node, fx.Node] = {}
    for node in seen.graph.nodes:
        if node in calls:
            module, inputs = calls[node]
            modules[f"kernels_{node.name}"] = module
            arguments = tuple(copies.get(each, each) for each in inputs)
            copies[node] = graph.call_module(f"kernels_{node.name}", arguments)
        elif node not in inside:
            copies[node] = graph.node_copy(node, layout.as_read_by(node, copies))
    return fx.GraphModule(modules, graph)


class _Layout:
    """Which values of a new graph may lie with their channels last though PyTorch's wouldn't."""

    def __init__(self, seen: fx.Graph, graph: fx.Graph, operations: Sequence[Operation]) -> None:
        self._graph = graph
        self._wide: set[fx.Node] = set()
        ends = {operation.nodes[-1] for operation in operations}
        for node in seen.nodes:
            following = follows(node) and any(n in self._wide for n in node.all_input_nodes)
            if node in ends or following:
                self._wide.add(node)
        # What decides how PyTorch lays images out: what comes from elsewhere, and the weights.
        self._sources = [
            node
            for each in operations
            for node in each.inputs[:2]
            if isinstance(node, fx.Node) and node not in self._wide
        ]
        self._settled: dict[fx.Node, fx.Node] = {}

    def as_read_by(
        self, reader: fx.Node, copies: dict[fx.Node, fx.Node]
    ) -> Callable[[fx.Node], fx.Node]:
        """What stands in the new graph for the values that a node reads."""
        if follows(reader):
            return copies.__getitem__

        def find(node: fx.Node) -> fx.Node:
            if node in self._wide and node not in self._settled:
                sources = [copies[each] for each in self._sources if each in copies]
                inputs = (copies[node], *sources)
                self._settled[node] = self._graph.call_function(settled, inputs)
            return self._settled.get(node, copies[node])

        return find


def _alone(seen: fx.GraphModule, segment: Segment) -> fx.GraphModule:
    """A segment's part of a graph as a module of its own, on the images and the parameters."""
    graph = fx.Graph()
    inputs = (segment.input, *segment.parameters)
    copies = {each: graph.placeholder(each.name) for each in inputs}
    for node in segment.nodes:
        for size in node.all_input_nodes:
            if size not in copies:  # how many images there are, where they are laid flat
                copies[size] = graph.call_method("size", (copies[segment.input], 0))
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[segment.nodes[-1]])
    return fx.GraphModule(seen, graph)
