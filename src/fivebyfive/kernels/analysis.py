"""One look at a network: what of it the kernels can run, and why not the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import fx, nn

from ..lib.torch_internals import hooked
from .blocks import Block, shapes
from .finding import Segment, find, passes, why_left_out
from .library import kernels, report
from .tracing import NotTraceableError, trace

#: Segments with more parameters stay in PyTorch: its blocked products are no slower on wide layers
#: (measured on AlexNet), and the kernels copy the weights into their own order at every step.
MOST_PARAMETERS = 4_000_000


@dataclass(frozen=True)
class Refusal:
    """Something that PyTorch computes, and why.

    ``name`` is its path in the network, or the function's name in the trace; ``type`` is the
    layer's class or the function. For a network as a whole they are empty and ``all``.
    """

    name: str
    type: str
    reason: str


@dataclass(frozen=True)
class WholeNetwork:
    """A network that is nothing but a chain; ``normalised`` if a ``log_softmax`` follows it."""

    blocks: tuple[Block, ...]
    normalised: bool


@dataclass(frozen=True)
class Analysis:
    """A network's trace (``None`` where it has none) and what the kernels can run of it.

    ``layers`` is how many operations compute something; those that only lay values out anew
    (``Flatten``, ``view``) don't count. Each of them is in one of the ``segments`` or has its
    refusal; where the network as a whole is refused there is one refusal alone. ``whole`` is the
    chain that the network is from images to scores, if it is one, whatever its size.
    """

    graph: fx.GraphModule | None
    segments: tuple[Segment, ...]
    refusals: tuple[Refusal, ...]
    layers: int
    whole: WholeNetwork | None = None

    @property
    def convolves(self) -> bool:
        """Whether a convolution is among the segments."""
        blocks = (block for segment in self.segments for block in segment.blocks)
        return any(isinstance(block.layer, nn.Conv2d) for block in blocks)


def analyse(network: nn.Module, shape: tuple[int, int, int] | None = None) -> Analysis:
    """Trace ``network`` once and find what the kernels can run.

    ``shape`` is one image's; without it nobody asks whether the network is one whole chain.
    """
    if kernels() is None:
        return refused(network, f"no kernels on this machine: {report().reason}")
    for name, module in list(network.named_modules())[1:]:
        if hooked(module):
            return refused(network, f"hooks on {name!r}, or another forward put into it")
    try:
        traced = trace(network)
    except NotTraceableError as error:
        return refused(network, str(error))
    found, modules = find(traced), dict(traced.named_modules())
    layers = [n for n in _layers(traced.graph, modules) if not _idle(n, traced.graph, shape)]
    segments = [s for s in found if sum(p.numel() for p in s.parameters) <= MOST_PARAMETERS]
    wide = {node for segment in found if segment not in segments for node in segment.nodes}
    taken = {node for segment in segments for node in segment.nodes}
    too_many = f"more than {MOST_PARAMETERS:,} parameters, PyTorch's products are no slower"
    refusals = [
        refusal(node, modules, too_many if node in wide else why_left_out(node, modules))
        for node in layers
        if node not in taken
    ]
    whole = None if shape is None or hooked(network) else _whole(traced, found, shape)
    return Analysis(traced, tuple(segments), tuple(refusals), len(layers), whole)


def refused(network: nn.Module, reason: str) -> Analysis:
    """What can be said of a network that PyTorch computes as a whole: its modules are counted."""
    leaves = [each for each in network.modules() if not any(each.children())]
    layers = [each for each in leaves if type(each).__name__ not in _LAYOUT]
    return Analysis(None, (), (Refusal("", "all", reason),), len(layers))


def refusal(node: fx.Node, modules: dict[str, nn.Module], reason: str) -> Refusal:
    """For one operation of a trace."""
    name = str(node.target) if node.op == "call_module" else node.name
    return Refusal(name, _kind(node, modules), reason)


# Operations that give numbers, and those that only lay values out anew.
_NUMBERS = {"size", "getattr", "len", "dim", "numel"}
_LAYOUT = {
    "Flatten", "Unflatten", "Identity", "flatten", "unflatten", "view", "reshape", "squeeze",
    "unsqueeze", "permute", "transpose", "t", "contiguous", "clone", "detach", "float", "to",
    "getitem", "chunk", "split", "expand",
}  # fmt: skip


def _layers(graph: fx.Graph, modules: dict[str, nn.Module]) -> Iterator[fx.Node]:
    """The operations that compute something."""
    numbers: set[fx.Node] = set()
    for node in graph.nodes:
        if not node.op.startswith("call"):
            continue
        kind, inputs = _kind(node, modules), node.all_input_nodes
        if kind in _NUMBERS or (inputs and all(each in numbers for each in inputs)):
            numbers.add(node)
        elif kind not in _LAYOUT:
            yield node


def _idle(node: fx.Node, graph: fx.Graph, shape: tuple[int, int, int] | None) -> bool:
    """Whether a function of the network's own gives images of that shape back untouched."""
    own = not str(getattr(node.target, "__module__", "torch")).startswith(("torch", "None", "_"))
    start = next(iter(graph.nodes))
    return own and shape is not None and passes(node, start, torch.empty(1, *shape))


def _kind(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    """The layer's class, or the function's name."""
    if node.op == "call_module":
        return type(modules[str(node.target)]).__name__
    return str(getattr(node.target, "__name__", node.target))


def _whole(
    traced: fx.GraphModule, found: list[Segment], shape: tuple[int, int, int]
) -> WholeNetwork | None:
    """The chain that the network is for images of ``shape``; ``None`` if it is anything else."""
    if len(found) != 1 or shapes(found[0].blocks, shape) is None:
        return None
    segment = found[0]
    start, *middle, end = [node for node in traced.graph.nodes if node not in segment.nodes]
    if middle and passes(middle[0], start, torch.empty(1, *shape)):
        start, *middle = middle
    last = segment.nodes[-1]
    if normalised := bool(middle) and _log_softmax(middle[0], last, traced):
        last, *middle = middle
    connected = segment.nodes[0].args[0] is start and end.args == (last,) and not middle
    served = all(
        p.dtype == torch.float32 and p.device.type in ("cpu", "meta") for p in segment.parameters
    )
    return WholeNetwork(tuple(segment.blocks), normalised) if connected and served else None


def _log_softmax(node: fx.Node, of: fx.Node, traced: fx.GraphModule) -> bool:
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        return type(module) is nn.LogSoftmax and module.dim in (1, -1) and node.args == (of,)
    if node.target not in (F.log_softmax, torch.log_softmax, "log_softmax"):
        return False
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    return node.args[0] is of and dim in (1, -1) and node.kwargs.get("dtype") is None
