"""A forward's graph with what the kernels compute put in place of PyTorch's functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx, nn

from .analysis import Analysis
from .channels_last import Operation, Workspaces, follows, settled
from .finding import Segment
from .fused_chain import FusedChain


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
