"""One look at a network: what of it the kernels can run, and why not the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, fx, nn

from . import channels_last
from .arguments import Values
from .blocks import Block, shapes
from .channels_last import Operation
from .finding import Segment, find, why_left_out
from .forward import Forward

#: Chains with more parameters are computed layer by layer: products of large matrices are faster
#: than one image a lane, for which the weights are copied into another order at every step.
MOST_PARAMETERS = 4_000_000
#: So are chains on larger images (values of one image, in any layer): those of all lanes together
#: would fit no cache.
MOST_VALUES = 1 << 16


@dataclass(frozen=True)
class Refusal:
    """Something that PyTorch computes, and why.

    ``name`` is its path in the network, or the function's name in the graph; ``type`` is the
    layer's class or the function. For a network as a whole they are empty and ``all``.
    """

    name: str
    type: str
    reason: str


@dataclass(frozen=True)
class WholeNetwork:
    """A network that is nothing but a chain; ``normalised`` if a ``log_softmax`` follows it."""

    blocks: tuple[Block, ...]
    parameters: tuple[Tensor, ...]
    normalised: bool


@dataclass(frozen=True)
class Analysis:
    """A network's forward (``None`` where it can't be seen) and what the kernels can run of it.

    ``layers`` is how many operations compute something; those that only lay values out anew
    (``Flatten``, ``view``) don't count. Each of them is in one of the ``segments`` or has its
    refusal; where the network as a whole is refused there is one refusal alone. ``whole`` is the
    chain that the network is from images to scores, if it is one that goes through at once.
    """

    graph: fx.GraphModule | None
    segments: tuple[Segment, ...]
    operations: tuple[Operation, ...]
    refusals: tuple[Refusal, ...]
    layers: int
    whole: WholeNetwork | None = None
    types: frozenset[torch.dtype] = frozenset()

    @property
    def convolves(self) -> bool:
        """Whether a convolution is among what the kernels run."""
        return bool(self.operations) or any(
            block.convolves for segment in self.segments for block in segment.blocks
        )

    def refuse(self, segment: Segment, reason: str) -> list[Refusal]:
        """Refusals of what is in a segment."""
        return [Refusal(*_layer(node), reason) for node in segment.nodes if _computes(node)]


def analyse(forward: Forward) -> Analysis:
    """Find what the kernels can run of a network whose forward was seen on some images."""
    graph: fx.Graph = forward.graph.graph
    starts = [node for node in graph.nodes if node.op == "placeholder"]
    values: Values = dict(zip(starts, forward.inputs, strict=True))
    if why := _why_not(graph):
        return _refused(len(_layers(graph)), why)
    found, layers = find(graph, values), _layers(graph)
    whole = _whole(graph, found[0], values, forward.images) if len(found) == 1 else None
    segments, operations = found, list[Operation]()
    if whole is None or not _fits_lanes(whole, forward.images):
        operations = channels_last.find(graph, values)
    if operations:
        segments, whole = [], None
    taken = {node for segment in segments for node in segment.nodes}
    reasons = {node: each.refusal for each in operations for node in each.nodes}
    refusals = [
        Refusal(*_layer(node), reasons.get(node) or why_left_out(node, values, bool(operations)))
        for node in layers
        if node not in taken and reasons.get(node) != ""
    ]
    return Analysis(
        forward.graph,
        tuple(segments),
        tuple(operations),
        tuple(refusals),
        len(layers),
        whole,
        frozenset(v.dtype for v in values.values() if isinstance(v, nn.Parameter)),
    )


def refused(network: nn.Module, reason: str) -> Analysis:
    """What can be said of a network that PyTorch computes as a whole: its modules are counted."""
    leaves = [each for each in network.modules() if not any(each.children())]
    return _refused(sum(type(each).__name__ not in _LAYOUT for each in leaves), reason)


def _refused(layers: int, reason: str) -> Analysis:
    return Analysis(None, (), (), (Refusal("", "all", reason),), layers)


def _fits_lanes(whole: WholeNetwork, images: Tensor) -> bool:
    """Whether a chain is fastest with one image a lane."""
    values = shapes(whole.blocks, tuple(images.shape[1:])) or []
    size = sum(each.numel() for each in whole.parameters)
    return size <= MOST_PARAMETERS and max(map(math.prod, values), default=0) <= MOST_VALUES


# Operations that give numbers, and those that only lay values out anew.
_NUMBERS = {"size", "getattr", "len", "dim", "numel"}
_LAYOUT = {
    "Flatten", "Unflatten", "Identity", "flatten", "unflatten", "view", "reshape", "squeeze",
    "unsqueeze", "permute", "transpose", "t", "contiguous", "clone", "detach", "float", "to",
    "getitem", "chunk", "split", "expand",
}  # fmt: skip


def _why_not(graph: fx.Graph) -> str:
    """Why a graph can't be cut into segments; empty if it can."""
    for node in graph.nodes:
        name = str(getattr(node.target, "__name__", node.target))
        if name.startswith(("_enter_", "_exit_", "_set_")):
            return "forward turns gradients or autocast on or off"
        # Checkpointed parts, functions of torch.autograd, parts for vmap and the like.
        if node.op == "get_attr" or isinstance(node.target, torch._ops.HigherOrderOperator):
            return "forward has parts of its own, such as checkpoints or autograd functions"
    return ""


def _layers(graph: fx.Graph) -> list[fx.Node]:
    """The operations that compute something; of those that a call of a layer does the last."""
    numbers: set[fx.Node] = set()
    found: dict[str, fx.Node] = {}
    for node in graph.nodes:
        if not node.op.startswith("call"):
            continue
        inputs = node.all_input_nodes
        if _function(node) in _NUMBERS or (inputs and all(each in numbers for each in inputs)):
            numbers.add(node)
        elif _computes(node):
            found[node.meta.get("call", node.name)] = node
    return list(found.values())


def _computes(node: fx.Node) -> bool:
    return not node.meta.get("flattens") and _layer(node)[1] not in _LAYOUT


def _layer(node: fx.Node) -> tuple[str, str]:
    """The path and class of the layer that a node belongs to; else the function's names."""
    return node.meta.get("layer") or (node.name, _function(node))


def _function(node: fx.Node) -> str:
    name = getattr(node.target, "__name__", str(node.target))
    # PyTorch chooses between two functions of max-pooling by one that is called "fn".
    return "max_pool2d" if node.target is F.max_pool2d else str(name)


def _whole(
    graph: fx.Graph, segment: Segment, values: Values, images: object
) -> WholeNetwork | None:
    """The chain that the network is for these images; ``None`` if it is anything else."""
    calls = [n for n in graph.nodes if n.op.startswith("call") and n not in segment.nodes]
    last = segment.nodes[-1]
    normalised = len(calls) == 1 and _is_log_softmax(calls[0], last)
    end = calls[0] if normalised else last
    parameters = tuple(values[each] for each in segment.parameters)
    fits = (
        values.get(segment.input) is images
        and (segment.blocks[0].convolves or segment.flattens)
        and isinstance(images, Tensor)
        and shapes(segment.blocks, tuple(images.shape[1:])) is not None
        and len(calls) == normalised
        and graph.output_node().args == (end,)
        and len(set(parameters)) == len(parameters)
        and all(isinstance(p, nn.Parameter) and p.dtype == torch.float32 for p in parameters)
        and all(p.device.type in ("cpu", "meta") for p in parameters)
    )
    return WholeNetwork(tuple(segment.blocks), parameters, normalised) if fits else None


def _is_log_softmax(node: fx.Node, of: fx.Node) -> bool:
    if node.target not in (F.log_softmax, torch.log_softmax, "log_softmax"):
        return False
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    return node.args[0] is of and dim in (1, -1) and node.kwargs.get("dtype") is None
