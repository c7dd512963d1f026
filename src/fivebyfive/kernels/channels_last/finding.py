"""Finding the operations of a forward that are worth computing with the channels last."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, fx, nn

from .. import products
from ..arguments import CONVOLUTION, LINEAR, Values, arguments, side, undisturbed
from .batch_norm import Normalisation
from .convolution import FEW_CHANNELS, LEAST_CHANNELS, Convolution, why_unsupported
from .max_pool import LARGEST_KERNEL, MaxPool
from .workspace import Workspaces

_RELU = {F.relu, torch.relu, torch.relu_, "relu", "relu_"}
_ADD = {operator.add, operator.iadd, torch.add, "add", "add_"}

#: Operations whose result lies as their images do, and is the same however those lie.
_FOLLOWING = {
    *_RELU, *_ADD, CONVOLUTION, F.batch_norm, torch.cat, torch.concat,
    F.sigmoid, torch.sigmoid, "sigmoid", F.tanh, torch.tanh, "tanh",
    F.max_pool2d, torch.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d,
}  # fmt: skip


@dataclass
class Operation:
    """Something in a graph that a module computes: its nodes, and what the module is called with.

    Attributes:
        nodes: in the graph's order; the last one's value is the result.
        inputs: the module's arguments.
        make: makes the module.
        refusal: why the kernels leave it to PyTorch, with the channels last; empty if they don't.
    """

    nodes: list[fx.Node]
    inputs: list[Any]
    make: Callable[[Workspaces], nn.Module] = field(repr=False)
    refusal: str = ""


def find(graph: fx.Graph, values: Values) -> list[Operation]:
    """The operations of a graph; none where no convolution has enough channels for any of this."""
    if not any(_wide(node, values) for node in graph.nodes):
        return []
    found: list[Operation] = []
    used: set[fx.Node] = set()
    for node in graph.nodes:
        find_one = _FINDERS.get(node.target)
        operation = find_one(node, used, values) if find_one and node not in used else None
        if operation is not None:
            found.append(operation)
            used.update(operation.nodes)
    return found


def _wide(node: fx.Node, values: Values) -> bool:
    shape = _shape(node, values)
    return node.target is CONVOLUTION and len(shape) == 4 and min(shape[:2]) >= LEAST_CHANNELS


def _shape(node: fx.Node, values: Values) -> tuple[int, ...]:
    """The shape of a layer's weight; empty where it isn't known."""
    given = arguments(node)
    weight = values.get(given["weight"]) if given and given.get("weight") else None
    return tuple(weight.shape) if isinstance(weight, Tensor) else ()


def _convolution(node: fx.Node, used: set[fx.Node], values: Values) -> Operation | None:
    given = arguments(node)
    if given is None:
        return None
    settings = tuple(given[name] for name in ("stride", "padding", "dilation", "groups"))
    if not isinstance(given["weight"], fx.Node) or any(map(_computed, settings)):
        return None
    inputs = [node.all_input_nodes[0], given["weight"], given["bias"]]
    relu = _only_user([node], inputs, _RELU, used)
    return Operation(
        [node, *relu],
        inputs,
        lambda workspaces: Convolution(settings, bool(relu), workspaces),
        why_unsupported(_shape(node, values), settings),
    )


def _normalisation(node: fx.Node, used: set[fx.Node], values: Values) -> Operation | None:
    given = arguments(node)
    if given is None:
        return None
    training, momentum, eps = (given[name] for name in ("training", "momentum", "eps"))
    if type(training) is not bool or not all(isinstance(n, float | int) for n in (momentum, eps)):
        return None
    nodes = [node]
    inputs = [node.all_input_nodes[0]]
    inputs += [given[name] for name in ("running_mean", "running_var", "weight", "bias")]
    added = _only_user(nodes, inputs, _ADD, used)
    if added and (other := _other(added[0], node)) is not None:
        nodes += added
        inputs.append(other)
    nodes += (relu := _only_user(nodes, inputs, _RELU, used))
    return Operation(
        nodes,
        inputs,
        lambda w: Normalisation(training, float(momentum), float(eps), bool(relu), w),
        "" if _shape(node, values)[:1] >= (LEAST_CHANNELS,) else FEW_CHANNELS,
    )


def _linear(node: fx.Node, used: set[fx.Node], values: Values) -> Operation | None:  # noqa: ARG001
    given = arguments(node)
    if given is None or not isinstance(given["weight"], fx.Node):
        return None
    inputs = [node.all_input_nodes[0], given["weight"], given["bias"]]
    refusal = "PyTorch's own product is as fast"
    return Operation([node], inputs, lambda _: products.Linear(), refusal)


def _max_pool(node: fx.Node, used: set[fx.Node], values: Values) -> Operation | None:  # noqa: ARG001
    given = arguments(node)
    if given is None or given["return_indices"] or type(given["ceil_mode"]) is not bool:
        return None
    stride = given["kernel_size"] if given["stride"] in (None, (), []) else given["stride"]
    sides = [side(each) for each in (given["kernel_size"], stride, given["padding"])]
    kernel, step, padding = sides
    if kernel is None or step is None or padding is None or side(given["dilation"]) != 1:
        return None
    if not 1 <= kernel <= LARGEST_KERNEL or step < 1:
        return None
    ceil_mode = given["ceil_mode"]
    images = [node.all_input_nodes[0]]
    return Operation([node], images, lambda _: MaxPool(kernel, step, padding, ceil_mode))


_FINDERS: dict[Any, Callable[[fx.Node, set[fx.Node], Values], Operation | None]] = {
    CONVOLUTION: _convolution,
    F.batch_norm: _normalisation,
    LINEAR: _linear,
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _max_pool),
}


def _only_user(
    nodes: list[fx.Node], inputs: list[Any], targets: set[Any], used: set[fx.Node]
) -> list[fx.Node]:
    """The only user of the last node's value, if it is one of ``targets`` and may run with them."""
    users = list(nodes[-1].users)
    fits = len(users) == 1 and users[0].target in targets and users[0] not in used
    return users if fits and undisturbed([*nodes, *users], inputs) else []


def _other(addition: fx.Node, node: fx.Node) -> fx.Node | None:
    """What is added to a node's value, where nothing is written that others may read."""
    if addition.kwargs or len(addition.args) != 2:
        return None
    first, second = addition.args
    if first is node and isinstance(second, fx.Node) and second is not node:
        return second
    in_place = addition.target in (operator.iadd, "add_")
    return first if second is node and not in_place and isinstance(first, fx.Node) else None


def _computed(setting: Any) -> bool:
    return isinstance(setting, fx.Node) or (
        isinstance(setting, Sequence) and any(isinstance(each, fx.Node) for each in setting)
    )


def follows(node: fx.Node) -> bool:
    """Whether a node's result lies as its images do, whose layout changes nothing else."""
    return node.target in _FOLLOWING
