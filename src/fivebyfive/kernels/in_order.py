"""Networks that are layers in order: containers of PyTorch's, and of this package, say so.

Such a network need not be run to know what it does. That its layers are still the same, with the
same settings, and that nobody listens to them, is read off at every call, in microseconds.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, fx, nn

from ..lib.torch_internals import hooked
from ..networks.lenet import LeNet, as_images
from .forward import Forward


class _Layer(NamedTuple):
    """How a layer of PyTorch's calls the function that computes it.

    ``weights`` (parameters and buffers) come after the images in the call, then what ``settings``
    read off the layer; all in the order of the function's arguments. What is ``needed`` are those
    of the weights without which the layer is called as a whole.
    """

    function: Callable[..., Any]
    settings: Callable[[Any], tuple[Any, ...]] = lambda layer: ()  # noqa: ARG005
    weights: tuple[str, ...] = ()
    supported: Callable[[Any], bool] = lambda layer: True  # noqa: ARG005
    needed: int = 1


def _four_dimensional(images: Tensor) -> None:
    """Refuse what the layer refuses and its function doesn't.

    Raises:
        ValueError: in the layer's words.
    """
    if images.dim() != 4:
        raise ValueError(f"expected 4D input (got {images.dim()}D input)")


def _normalised(graph: fx.Graph, images: fx.Node, counted: fx.Node, *arguments: Any) -> fx.Node:
    """What a batch normalisation does besides: it looks at its input, and counts the batches."""
    graph.call_function(_four_dimensional, (images,))
    if arguments[4]:  # in training
        graph.call_method("add_", (counted, 1))
    return graph.call_function(F.batch_norm, (images, *arguments))


_WEIGHTS = ("weight", "bias")

#: The layers whose function is known; any other is called as a whole.
_LAYERS: dict[type[nn.Module], _Layer] = {
    nn.Conv2d: _Layer(
        torch.conv2d,
        lambda m: (m.stride, m.padding, m.dilation, m.groups),
        _WEIGHTS,
        lambda m: m.padding_mode == "zeros",
    ),
    nn.Linear: _Layer(F.linear, weights=_WEIGHTS),
    nn.ReLU: _Layer(F.relu, lambda m: (m.inplace,)),
    nn.Sigmoid: _Layer(torch.sigmoid),
    nn.Tanh: _Layer(torch.tanh),
    nn.AvgPool2d: _Layer(
        F.avg_pool2d,
        lambda m: (m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad,
                   m.divisor_override),
    ),
    nn.MaxPool2d: _Layer(
        F.max_pool2d,
        lambda m: (m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode),
        supported=lambda m: not m.return_indices,
    ),
    nn.BatchNorm2d: _Layer(
        F.batch_norm,
        lambda m: (m.training, m.momentum, m.eps),
        ("num_batches_tracked", "running_mean", "running_var", *_WEIGHTS),
        needed=3,
        supported=lambda m: m.track_running_stats and m.momentum is not None,
    ),
    nn.Flatten: _Layer(torch.flatten, lambda m: (m.start_dim, m.end_dim)),
    nn.LogSoftmax: _Layer(F.log_softmax, lambda m: (m.dim,)),
}  # fmt: skip

#: Layers that do more than call their function.
_MORE: dict[Callable[..., Any], Callable[..., fx.Node]] = {F.batch_norm: _normalised}

_FORWARDS: dict[Any, Any] = {kind: kind.forward for kind in _LAYERS}


def says_its_order(network: nn.Module) -> bool:
    """Whether ``network`` runs what it holds in order; LeNet first gives flat images a shape."""
    kind: Any = type(network)
    return isinstance(network, nn.Sequential) and (
        kind.forward in (nn.Sequential.forward, LeNet.forward)
        and kind.__iter__ is nn.Sequential.__iter__
        and kind.__call__ is nn.Module.__call__
    )


def layers(network: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """What a container runs, in order, with paths; containers within containers are looked into."""
    for name, layer in network._modules.items():
        assert layer is not None
        if says_its_order(layer) and not isinstance(layer, LeNet) and not hooked(layer):
            yield from layers(layer, f"{path}{name}.")
        else:
            yield f"{path}{name}", layer


def says_all(network: nn.Module) -> bool:
    """Whether a network says its order, and what it runs are PyTorch's own layers."""
    return says_its_order(network) and all(
        type(layer).__module__.startswith("torch.nn.modules.") for _, layer in layers(network)
    )


class InOrder:
    """See :class:`~fivebyfive.kernels.forward.View`."""

    def __init__(self, network: nn.Module) -> None:
        self.refusal = ""
        self._network = network
        self._known: tuple[list[Any], fx.GraphModule] | None = None

    def look(self, *args: Any, **kwargs: Any) -> Forward | None:
        """What the forward does with these inputs."""
        self.refusal = self._why_not(args, kwargs)
        if self.refusal:
            return None
        images = args[0]
        if isinstance(self._network, LeNet):
            images = as_images(images, self._network.channels)
        steps = [(path, layer, _call(layer)) for path, layer in layers(self._network)]
        facts: list[Any] = [each for _, layer, call in steps for each in (layer, call and call[:2])]
        weights = [w for _, _, call in steps if call for w in call[2]]
        facts += [w is None for w in weights]
        known = self._known
        if known is None or known[0] != facts:
            self._known = known = facts, _graph(self._network, steps)
        return Forward(known[1], (images, *(w for w in weights if w is not None)), images)

    def _why_not(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        if not says_its_order(self._network) or hooked(self._network):
            return "hooks on the network, or another forward put into it"
        if kwargs or len(args) != 1 or not isinstance(args[0], Tensor):
            return "its input isn't one tensor"
        return ""


#: What calls a layer: its function, what it reads off the layer, and the layer's weights.
_Call = tuple[Callable[..., Any], tuple[Any, ...], list[Tensor | None]]


def _call(layer: nn.Module) -> _Call | None:
    """How the layer's function is called; ``None`` where the layer is called as a whole."""
    known = _LAYERS.get(type(layer))
    as_written = type(layer).forward is _FORWARDS.get(type(layer))
    if known is None or not as_written or hooked(layer) or not known.supported(layer):
        return None
    weights: list[Tensor | None] = [
        layer._parameters.get(name, layer._buffers.get(name)) for name in known.weights
    ]
    if any(each is None for each in weights[: known.needed]):  # it is computed, or gone
        return None
    return known.function, known.settings(layer), weights


def _called(function: Callable[..., Any], graph: fx.Graph, *arguments: Any) -> fx.Node:
    return graph.call_function(function, arguments)


def _graph(network: nn.Module, steps: list[tuple[str, nn.Module, _Call | None]]) -> fx.GraphModule:
    graph = fx.Graph()
    value = graph.placeholder("images")
    numbers = itertools.count()
    given = [
        [None if w is None else graph.placeholder(f"weight_{next(numbers)}") for w in call[2]]
        if call
        else []
        for _, _, call in steps
    ]
    modules = {}
    for (path, layer, call), placeholders in zip(steps, given, strict=True):
        before = value
        if call is None:
            name = f"layer_{path.replace('.', '_')}"
            modules[name] = layer
            value = graph.call_module(name, (value,))
        else:
            function, settings, _ = call
            add = _MORE.get(function, functools.partial(_called, function))
            value = add(graph, value, *placeholders, *settings)
        node = before
        while node is not value:
            node = node.next
            node.meta["layer"], node.meta["call"] = (path, type(layer).__name__), path
        value.meta["flattens"] = type(layer) is nn.Flatten and call and call[1] == (1, -1)
    graph.output(value)
    return fx.GraphModule(modules, graph, type(network).__name__)
