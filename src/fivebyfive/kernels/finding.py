"""Finding what the kernels can run: picking the segments out of a network's trace.

A segment is a chain of blocks, each used by the next alone: convolutions first, then linear layers.
Everything else stays as the trace has it, and so does a segment's own part of the trace, for inputs
that the kernels don't take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import fx, nn

from .blocks import MOST_LAYERS, Block

ACTIVATIONS: dict[type[nn.Module] | Callable[..., object] | str, str] = {
    **dict.fromkeys((nn.Sigmoid, F.sigmoid, torch.sigmoid, "sigmoid"), "sigmoid"),
    **dict.fromkeys((nn.Tanh, F.tanh, torch.tanh, "tanh"), "tanh"),
    **dict.fromkeys((nn.ReLU, F.relu, torch.relu, "relu"), "relu"),
}
POOLINGS: dict[type[nn.Module] | Callable[..., object], str] = {
    **dict.fromkeys((nn.AvgPool2d, F.avg_pool2d), "average"),
    **dict.fromkeys((nn.MaxPool2d, F.max_pool2d, torch.max_pool2d), "max"),
}


@dataclass
class Segment:
    """A chain in a trace: its blocks and the nodes they came from, in order."""

    blocks: list[Block] = field(default_factory=list)
    nodes: list[fx.Node] = field(default_factory=list)

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Those of its blocks, in order."""
        return [p for block in self.blocks for p in block.parameters()]


def find(traced: fx.GraphModule) -> list[Segment]:
    """The segments of a trace, as long as they can be, in its order."""
    seen: set[int] = set()  # nodes, and modules and parameters, that a segment has taken
    modules = dict(traced.named_modules())
    segments = []
    for node in traced.graph.nodes:
        segment = Segment()
        following: fx.Node | None = node
        while following is not None and len(segment.blocks) < MOST_LAYERS:
            following = _extend(segment, following, modules, seen)
        if segment.blocks:
            segments.append(segment)
    return segments


def _extend(
    found: Segment, node: fx.Node, modules: dict[str, nn.Module], seen: set[int]
) -> fx.Node | None:
    """Add the block that starts at ``node``, if one does; the node after it, if it may go on."""
    previous = found.blocks[-1].layer if found.blocks else None
    flat = _flattened(node, modules) if isinstance(previous, nn.Conv2d) else []
    start = _next(flat[-1]) if flat else node
    layer = _layer(start, modules)
    if start is None or layer is None or not _follows(layer, previous, flat):
        return None
    taken = {id(start), id(layer), id(layer.weight), id(layer.bias)} - {id(None)}
    if taken & seen:
        return None
    seen |= taken
    nodes = [*flat, start]
    activation, pooling, pool = "none", "none", (1, 1)
    following = _next(start)
    if following is not None and (name := _activation(following, modules)):
        activation = name
        nodes.append(following)
        following = _next(following)
    convolution = isinstance(layer, nn.Conv2d)
    if following is not None and convolution and (pooled := _pooling(following, modules)):
        pooling, pool = pooled
        nodes.append(following)
        following = _next(following)
    found.blocks.append(Block(layer, activation, pooling, pool))
    found.nodes += nodes
    return following


def _layer(node: fx.Node | None, modules: dict[str, nn.Module]) -> nn.Conv2d | nn.Linear | None:
    """The layer that a node calls, if the kernels compute it."""
    if node is None or node.op != "call_module" or not _plain_call(node):
        return None
    layer = modules[str(node.target)]
    if not isinstance(layer, nn.Conv2d | nn.Linear) or why_unsupported(layer):
        return None
    return layer


def _follows(layer: nn.Conv2d | nn.Linear, previous: nn.Module | None, flat: list[fx.Node]) -> bool:
    """Whether ``layer`` may go on a chain; ``flat`` are the nodes that lay the images flat."""
    if isinstance(layer, nn.Conv2d):
        return not flat and not isinstance(previous, nn.Linear)
    # On images that aren't laid flat a linear layer means something else.
    return isinstance(previous, nn.Conv2d) == bool(flat) and not _other_width(flat, layer)


def why_unsupported(layer: nn.Module) -> str:
    """Why the kernels don't compute a layer with weights; empty if they do."""
    if type(layer) is nn.Linear:
        return ""
    if type(layer) is not nn.Conv2d:  # one derived from it may compute anything
        return "no kernel"
    (height, width), padding = layer.kernel_size, layer.padding
    even = not isinstance(padding, str) and padding[0] == padding[1] < height
    rules = (
        (f"stride {layer.stride}, the kernels have stride 1 only", layer.stride == (1, 1)),
        ("dilation, the kernels have none", layer.dilation == (1, 1)),
        ("groups, the kernels have none", layer.groups == 1),
        (f"kernel {height}×{width}, the kernels' are square, up to 11×11", height == width <= 11),
        (f"padding {padding!r}, the kernels' is even and below the kernel size", even),
        (f"padding_mode {layer.padding_mode!r}, the kernels pad with zeros",
         layer.padding_mode == "zeros"),
    )  # fmt: skip
    return next((why for why, holds in rules if not holds), "")


#: Why an activation or a pooling is left out that the kernels would compute elsewhere.
MISPLACED = "not where the kernels have it: layer, activation, pooling"


def why_left_out(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    """Why an operation is in no segment."""
    module = modules[str(node.target)] if node.op == "call_module" else None
    if isinstance(module, nn.Conv2d | nn.Linear):
        return why_unsupported(module) or "it or a parameter of it is used twice"
    kind = node.target if module is None else type(module)
    if kind in POOLINGS and _pooling(node, modules) is None:
        return "the kernels pool squares up to 3×3, without padding or ceil_mode"
    return MISPLACED if kind in ACTIVATIONS or kind in POOLINGS else "no kernel"


def _next(node: fx.Node) -> fx.Node | None:
    """The only user of a node's value. The two nodes of ``x.view(x.size(0), -1)`` count as one."""
    users = list(node.users)
    if len(users) == 2 and _is_batch_size(users[0], node) and list(users[0].users) == users[1:]:
        return users[0]
    return users[0] if len(users) == 1 and users[0].op != "output" else None


def _plain_call(node: fx.Node) -> bool:
    return len(node.args) == 1 and not node.kwargs


def _is_batch_size(node: fx.Node, of: fx.Node) -> bool:
    return node.op == "call_method" and node.target == "size" and node.args == (of, 0)


def _activation(node: fx.Node, modules: dict[str, nn.Module]) -> str | None:
    if node.op == "call_module":
        return ACTIVATIONS.get(type(modules[str(node.target)])) if _plain_call(node) else None
    kwargs = {key: value for key, value in node.kwargs.items() if key != "inplace"}
    return ACTIVATIONS.get(node.target) if len(node.args) == 1 and not kwargs else None


POOLING_OPTIONS = (
    "kernel_size", "stride", "padding", "dilation", "ceil_mode", "divisor_override",
    "return_indices",
)  # fmt: skip


def _pooling(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[str, tuple[int, int]] | None:
    """The kind, kernel and stride of a square pooling without padding or other extras."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        if type(module) not in POOLINGS or not _plain_call(node):
            return None
        kind = POOLINGS[type(module)]
        given = {name: getattr(module, name, None) for name in POOLING_OPTIONS}
    elif node.op == "call_function" and node.target in POOLINGS:
        assert callable(node.target)
        kind = POOLINGS[node.target]
        extra = ["dilation"] if kind == "max" else []
        names = ("input", "kernel_size", "stride", "padding", *extra, "ceil_mode")
        given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
        if len(node.args) > len(names):
            return None
        given.pop("input", None)
        given.pop("count_include_pad", None)  # means nothing without padding
    else:
        return None
    kernel = _square(given.pop("kernel_size", None))
    stride = _square(given.pop("stride", None) or kernel)
    plain = {None, False, (0, 0)}
    dilation = given.pop("dilation", 1)
    if kernel is None or stride is None or dilation not in (None, 1, (1, 1)):
        return None
    if any(isinstance(value, fx.Node | list) or value not in plain for value in given.values()):
        return None
    return kind, (kernel, stride)


def _square(value: object) -> int | None:
    if isinstance(value, tuple | list) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    return value if isinstance(value, int) and 1 <= value <= 3 else None


def _flattened(node: fx.Node, modules: dict[str, nn.Module]) -> list[fx.Node]:
    """The nodes of a step that lays images flat, if one starts at ``node``."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        flat = type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1)
        return [node] if flat else []
    if node.target in (torch.flatten, "flatten"):
        return [node] if node.args[1:] == (1,) and not node.kwargs else []
    if node.op == "call_method" and node.target == "size":
        view, *others = node.users
        shape = view.args[1:] if view.args[1:] and view.args[0] is node.args[0] else ()
        ok = view.op == "call_method" and view.target in ("view", "reshape")
        return [node, view] if ok and shape == (node, -1) and not others else []
    if node.op == "call_method" and node.target in ("view", "reshape"):
        # `x.view(-1, 400)`: whether that keeps one row an image shows in the next layer's size.
        fixed = len(node.args) == 3 and node.args[1] == -1 and isinstance(node.args[2], int)
        return [node] if fixed else []
    return []


def _other_width(flat: list[fx.Node], layer: nn.Linear) -> bool:
    """Whether a ``view(-1, n)`` gives rows of another length than ``layer`` takes."""
    return any(
        node.target in ("view", "reshape")
        and isinstance(node.args[-1], int)
        and node.args[-1] not in (-1, layer.in_features)
        for node in flat
    )


def passes(node: fx.Node, start: fx.Node, example: torch.Tensor) -> bool:
    """Whether a function after a trace's ``start`` gives such an input back untouched."""
    if node.op != "call_function" or node.args[:1] != (start,) or node.kwargs:
        return False
    extra = node.args[1:]
    if any(isinstance(value, fx.Node) for value in extra):
        return False
    assert callable(node.target)
    return node.target(example, *extra) is example
