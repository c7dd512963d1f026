"""What a call in a forward's graph was given, by the names of PyTorch's arguments."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import fx

#: What the placeholders of a graph stand for.
Values = Mapping[fx.Node, Any]

CONVOLUTION, LINEAR = torch.conv2d, F.linear

_LAYER: dict[str, Any] = {"weight": None, "bias": None}
_LAYER |= {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_NORM: dict[str, Any] = dict.fromkeys(("running_mean", "running_var", "weight", "bias"))
_NORM |= {"training": False, "momentum": 0.1, "eps": 1e-5}
_MAX: dict[str, Any] = {
    "kernel_size": None, "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False,
    "return_indices": False,
}  # fmt: skip
_AVERAGE: dict[str, Any] = {
    "kernel_size": None, "stride": None, "padding": 0, "ceil_mode": False,
    "count_include_pad": True, "divisor_override": None,
}  # fmt: skip

_ACTIVATION = {"inplace": False}

#: The arguments after the images, in their order, with what they are where not given.
_ARGUMENTS: dict[Any, dict[str, Any]] = {
    CONVOLUTION: _LAYER,
    LINEAR: _LAYER,
    F.batch_norm: _NORM,
    F.avg_pool2d: _AVERAGE,
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _MAX),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, "sigmoid"), _ACTIVATION),
    **dict.fromkeys((F.tanh, torch.tanh, "tanh"), _ACTIVATION),
    **dict.fromkeys((F.relu, torch.relu, "relu"), _ACTIVATION),
}


def arguments(node: fx.Node) -> dict[str, Any] | None:
    """A call's arguments after the images; ``None`` for a call of, or with, anything else."""
    names = _ARGUMENTS.get(node.target)
    images = [*node.args[:1], *([node.kwargs["input"]] if "input" in node.kwargs else [])]
    named = {name: value for name, value in node.kwargs.items() if name != "input"}
    if names is None or len(images) != 1 or not isinstance(images[0], fx.Node):
        return None
    if not named.keys() <= names.keys() or len(node.args) - 1 > len(names):
        return None
    return {**names, **dict(zip(names, node.args[1:], strict=False)), **named}


def side(value: Any) -> int | None:
    """A setting that is the same whole number for height and width; ``None`` for any other."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value,)
    alike = 1 <= len(pair) <= 2 and len(set(pair)) == 1 and type(pair[0]) is int
    return pair[0] if alike else None


_IN_PLACE = {
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv,
    operator.imod, operator.ipow, operator.iand, operator.ior, operator.ixor, operator.setitem,
}  # fmt: skip


def written(node: fx.Node) -> list[fx.Node]:
    """Whose values a node may change, beside giving its own."""
    given = arguments(node)
    if given is not None and node.target is F.batch_norm:
        return [given[name] for name in ("running_mean", "running_var") if given[name]]
    if given is not None:
        in_place = bool(given.get("inplace"))
    else:
        name = str(getattr(node.target, "__name__", node.target))
        in_place = (
            node.op == "call_module"
            or node.target in _IN_PLACE
            or (name.endswith("_") and not name.endswith("__"))
            or bool(node.kwargs.get("inplace"))
            or (len(node.args) > 1 and node.args[-1] is True)  # an activation's, perhaps
        )
    out = node.kwargs.get("out")
    found = node.all_input_nodes[:1] if in_place else []
    return [*found, out] if isinstance(out, fx.Node) else found


def undisturbed(nodes: list[fx.Node], inputs: list[Any]) -> bool:
    """Whether some nodes may run at once: nothing between them changes what they read.

    What a placeholder stands for is taken for memory of its own; anything else may be a view.
    """
    between, node = [], nodes[0]
    while node is not nodes[-1]:
        between += [node] if node not in nodes else []
        node = node.next
    changed = {each for node in between for each in written(node)}
    return all(each.op == "placeholder" and each not in inputs for each in changed)
