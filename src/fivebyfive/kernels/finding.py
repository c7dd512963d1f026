"""Finding what the kernels can run: picking the segments out of a forward's graph.

A segment is a chain of blocks, each used by the next alone: convolutions first, then linear layers.
Everything else stays as the graph has it, and so does a segment's own part of the graph, for inputs
that the kernels don't take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, fx

from .arguments import CONVOLUTION, LINEAR, Values, arguments, undisturbed
from .blocks import MOST_LAYERS, Block

LAYERS = (CONVOLUTION, LINEAR)
ACTIVATIONS: dict[Callable[..., Any] | str, str] = {
    **dict.fromkeys((F.sigmoid, torch.sigmoid, "sigmoid"), "sigmoid"),
    **dict.fromkeys((F.tanh, torch.tanh, "tanh"), "tanh"),
    **dict.fromkeys((F.relu, torch.relu, "relu"), "relu"),
}
POOLINGS: dict[Callable[..., Any] | str, str] = {
    F.avg_pool2d: "average",
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), "max"),
}


@dataclass
class Segment:
    """A chain in a graph: its blocks, the placeholders of their parameters, and its own nodes."""

    blocks: list[Block] = field(default_factory=list)
    parameters: list[fx.Node] = field(default_factory=list)
    nodes: list[fx.Node] = field(default_factory=list)

    @property
    def input(self) -> fx.Node:
        """Whose value goes into the chain."""
        return self.nodes[0].all_input_nodes[0]

    @property
    def flattens(self) -> bool:
        """Whether the chain begins with laying its images flat."""
        return bool(self.nodes[0].meta.get("flattens"))


def find(graph: fx.Graph, values: Values) -> list[Segment]:
    """The segments of a graph, as long as they can be, in its order."""
    taken: set[fx.Node] = set()
    segments = []
    for node in graph.nodes:
        segment = Segment()
        following: fx.Node | None = None if node in taken else node
        while following is not None and len(segment.blocks) < MOST_LAYERS:
            following = _extend(segment, following, values)
        if segment.blocks and undisturbed(segment.nodes, [segment.input, *segment.parameters]):
            segments.append(segment)
            taken.update(segment.nodes)
    return segments


def _extend(found: Segment, node: fx.Node, values: Values) -> fx.Node | None:
    """Add the block that starts at ``node``, if one does; the node after it, if it may go on."""
    previous = found.blocks[-1] if found.blocks else None
    first = previous is None or previous.convolves
    flat = [node] if first and node.meta.get("flattens") else []
    start = _next(node) if flat else node
    if start is None or why_unsupported(start, values):
        return None
    block, parameters = _layer(start, values)
    # On images that aren't laid flat a linear layer means something else.
    before = previous is None or previous.convolves == block.convolves
    if (not before and not flat) or (flat and block.convolves):
        return None
    nodes, activation, pooling, pool = [*flat, start], "none", "none", (1, 1)
    following = _next(start)
    if following is not None and (name := _activation(following)):
        activation = name
        nodes.append(following)
        following = _next(following)
    if following is not None and block.convolves and (pooled := _pooling(following)):
        pooling, pool = pooled
        nodes.append(following)
        following = _next(following)
    found.blocks.append(Block(block.weight, block.bias, block.padding, activation, pooling, pool))
    found.parameters += parameters
    found.nodes += nodes
    return following


def why_unsupported(node: fx.Node, values: Values) -> str:
    """Why the kernels don't compute what a node does as a layer; empty if they do."""
    given = arguments(node) if node.target in LAYERS else None
    if given is None:
        return "no kernel"
    placeholders = [p for p in (given["weight"], given["bias"]) if p is not None]
    parameters = [values.get(p) for p in placeholders]
    if not all(isinstance(each, Tensor) for each in parameters):
        return "its parameters are computed"
    if any(len(p.users) > 1 for p in placeholders):
        return "it or a parameter of it is used twice"
    shape, *bias = (tuple(each.shape) for each in parameters if each is not None)
    stride, dilation, padding = (_pair(given[n]) for n in ("stride", "dilation", "padding"))
    dimensions = 2 if node.target is LINEAR else 4
    height, width = (*shape[2:], 1, 1)[:2]
    even = padding is not None and padding[0] == padding[1] < height
    rules = (
        ("no kernel", len(shape) == dimensions and bias in ([], [shape[:1]])),
        (f"stride {stride}, the kernels have stride 1 only", stride == (1, 1)),
        ("dilation, the kernels have none", dilation == (1, 1)),
        ("groups, the kernels have none", given["groups"] == 1),
        (f"kernel {height}×{width}, the kernels' are square, up to 11×11", height == width <= 11),
        (f"padding {given['padding']!r}, the kernels' is even and below the kernel size", even),
    )
    return next((why for why, holds in rules if not holds), "")


def _layer(node: fx.Node, values: Values) -> tuple[Block, list[fx.Node]]:
    """The block that a supported layer is, and the placeholders of its parameters."""
    given = arguments(node)
    assert given is not None
    padding = _pair(given["padding"])
    assert padding is not None
    parameters = [p for p in (given["weight"], given["bias"]) if p is not None]
    shape = tuple(values[parameters[0]].shape)
    return Block(shape, len(parameters) == 2, padding[0]), parameters


#: Why an activation or a pooling is left out that the kernels would compute elsewhere.
MISPLACED = "not where the kernels have it: layer, activation, pooling"


def why_left_out(node: fx.Node, values: Values, by_layer: bool) -> str:
    """Why a node is in no segment, or isn't computed layer by layer."""
    if by_layer:
        return "no kernel"
    if node.target in LAYERS:
        return why_unsupported(node, values) or MISPLACED
    if node.target in POOLINGS and _pooling(node) is None:
        return "the kernels pool squares up to 3×3, without padding or ceil_mode"
    return MISPLACED if node.target in ACTIVATIONS or node.target in POOLINGS else "no kernel"


def _next(node: fx.Node) -> fx.Node | None:
    """The only user of a node's value, if it takes it as its images."""
    users = list(node.users)
    if len(users) != 1 or users[0].op == "output" or users[0].all_input_nodes[0] is not node:
        return None
    return users[0]


def _activation(node: fx.Node) -> str | None:
    return ACTIVATIONS.get(node.target) if arguments(node) is not None else None


def _pooling(node: fx.Node) -> tuple[str, tuple[int, int]] | None:
    """The kind, kernel and stride of a square pooling without padding or other extras."""
    kind = POOLINGS.get(node.target)
    given = None if kind is None else arguments(node)
    if kind is None or given is None or any(isinstance(v, fx.Node) for v in given.values()):
        return None
    kernel = _side(given["kernel_size"])
    stride = kernel if given["stride"] in (None, (), []) else _side(given["stride"])
    plain = (
        _pair(given["padding"]) == (0, 0)
        and _pair(given.get("dilation", 1)) == (1, 1)
        and not given["ceil_mode"]
        and not given.get("return_indices")
        and given.get("divisor_override") is None
    )
    return (kind, (kernel, stride)) if plain and kernel and stride else None


def _side(value: Any) -> int | None:
    """The side of a square of 1 to 3."""
    pair = _pair(value)
    return pair[0] if pair is not None and pair[0] == pair[1] and 1 <= pair[0] <= 3 else None


def _pair(value: Any) -> tuple[int, int] | None:
    """A setting for height and width, however it is given; ``None`` where it isn't numbers."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    pair = pair * 2 if len(pair) == 1 else pair
    whole = len(pair) == 2 and all(type(side) is int for side in pair)
    return pair if whole else None
