"""One forward pass on the meta device, watched: every layer and function, in the order they run.

A *leaf module* (``nn.Conv2d``, or a user's module without parts) is one row. So is a function
called outside of them (``F.relu``, ``x.view``, ``torch.cat``, ``+``) on something computed from the
image. What happens inside a leaf module is seen too, for its FLOPs and its receptive field, but
gets no row of its own.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..lib import meta_device as meta
from ..lib.flops import FlopCounter
from ..lib.modes import in_mode
from . import shape_errors as shape_error
from .receptive_field import UNKNOWN, Field, behind

# Functions that compute nothing and change no shape. A row for each would hide the others.
_NOISE = {
    "clone",
    "contiguous",
    "detach",
    "double",
    "float",
    "half",
    "requires_grad",
    "to",
    "type",
    "type_as",
}


@dataclass(frozen=True)
class Layer:
    """One row: a leaf module or a function call, for a batch of one image.

    ``name`` is the path in the network (for a function, the path of the module that calls it and
    the function's name); ``type`` the module's class or the function's name. Shapes include the
    batch of one; with several inputs (``cat``, ``+``) ``input_shape`` is the first one's.
    ``flops`` counts a multiply-add as two, the forward pass only, and only convolutions and matrix
    products. ``parameters`` of a layer that runs twice are counted the first time.
    """

    name: str
    type: str
    kind: Literal["module", "function"]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    flops: int
    activation_bytes: int
    receptive_field: tuple[int, int] | Literal["all", "?"]
    effective_stride: tuple[int, int]


def trace(network: nn.Module, shape: tuple[int, int, int]) -> list[Layer]:
    """Every layer of ``network`` for one image of ``shape`` (C, H, W), in evaluation mode.

    Raises:
        ShapeError: the network doesn't take such an image.
        NetworkError: its ``forward`` can't run on the meta device, or raises.
    """
    state = meta.stand_ins(network)
    batch = meta.batch_of(network, shape, 1)
    counter = FlopCounter()
    watch = _Watch(network, batch, counter)
    try:
        with in_mode(network, training=False), torch.no_grad(), watch.hooks(), counter, watch:
            meta.forward(network, state, batch)
    except Exception as error:  # a user's forward may raise anything
        raise shape_error.explain(network, shape, error, watch.running) from error
    return watch.layers


class _Watch(TorchFunctionMode):
    """Sees every module entered and left, and every function of PyTorch that is called."""

    def __init__(self, network: nn.Module, batch: Tensor, counter: FlopCounter) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.running: list[
            shape_error.Running
        ] = []  # the modules entered and not left, outermost first
        self._network = network
        self._names = {module: name for name, module in network.named_modules()}
        self._counter = counter
        self._flops_before: list[int] = []
        self._leaves_entered = 0
        self._counted: set[int] = set()
        # By id, with the tensor itself so that the id isn't given to another one.
        self._fields: dict[int, tuple[Tensor, Field]] = {id(batch): (batch, Field())}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        before = self._counter.total
        result = func(*args, **kwargs)
        given, made = meta.tensors_in([*args, *kwargs.values()]), meta.tensors_in(result)
        fields = self._fields_of(given)
        if not fields or not made:
            return result
        name = plain_name(func)
        self._mark(made, behind(name, args, kwargs, made[0], fields))
        if not self._leaves_entered and name not in _NOISE and not _is_attribute(func):
            caller = self.running[-1].name if self.running else ""
            self._add(
                name=f"{caller}.{name}" if caller else name,
                type_=name,
                kind="function",
                given=given[0],
                made=made[0],
                weights=[tensor for tensor in given if isinstance(tensor, nn.Parameter)],
                flops=self._counter.total - before,
            )
        return result

    @contextlib.contextmanager
    def hooks(self) -> Iterator[None]:
        """Listen at every module for as long as the block lasts."""
        with contextlib.ExitStack() as handles:
            for module in self._names:
                before = module.register_forward_pre_hook(self._enter, with_kwargs=True)
                handles.callback(before.remove)
                after = module.register_forward_hook(self._leave, with_kwargs=True)
                handles.callback(after.remove)
            yield

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        given = meta.tensors_in([args, kwargs])
        shape = tuple(given[0].shape) if given else ()
        self.running.append(shape_error.Running(self._names[module], module, shape))
        self._flops_before.append(self._counter.total)
        self._leaves_entered += self._is_leaf(module)

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self.running.pop()
        flops = self._counter.total - self._flops_before.pop()
        if not self._is_leaf(module):
            return
        self._leaves_entered -= 1
        given, made = meta.tensors_in([args, kwargs]), meta.tensors_in(output)
        if given and made and not self._leaves_entered:
            self._add(
                name=self._names[module] or type(module).__name__,
                type_=type(module).__name__,
                kind="module",
                given=given[0],
                made=made[0],
                weights=list(module.parameters()),
                flops=flops,
            )

    def _is_leaf(self, module: nn.Module) -> bool:
        # Attention holds a Linear that it never calls, only its weights.
        if isinstance(module, nn.MultiheadAttention):
            return True
        if any(module.children()):
            return False
        return module is not self._network or type(module).__module__.startswith("torch.nn.")

    def _fields_of(self, tensors: Sequence[Tensor]) -> list[Field]:
        return [self._fields[id(tensor)][1] for tensor in tensors if id(tensor) in self._fields]

    def _mark(self, tensors: Sequence[Tensor], field: Field) -> None:
        for tensor in tensors:
            self._fields[id(tensor)] = (tensor, field)

    def _add(
        self,
        *,
        name: str,
        type_: str,
        kind: Literal["module", "function"],
        given: Tensor,
        made: Tensor,
        weights: list[nn.Parameter],
        flops: int,
    ) -> None:
        fresh = {id(weight): weight for weight in weights if id(weight) not in self._counted}
        self._counted |= fresh.keys()
        _, field = self._fields.get(id(made), (made, UNKNOWN))
        self.layers.append(
            Layer(
                name=name,
                type=type_,
                kind=kind,
                input_shape=tuple(given.shape),
                output_shape=tuple(made.shape),
                parameters=sum(weight.numel() for weight in fresh.values()),
                flops=flops,
                activation_bytes=made.numel() * made.element_size(),
                receptive_field=field.size,
                effective_stride=field.effective_stride,
            )
        )


def plain_name(function: Callable[..., Any]) -> str:
    """What a function of PyTorch is called in print: ``__iadd__`` and ``add_`` are both ``add``.

    >>> import torch
    >>> plain_name(torch.Tensor.relu_)
    'relu'
    """
    name: str = getattr(function, "__name__", type(function).__name__)
    reflected = re.fullmatch(r"__[ir]?(add|sub|mul|truediv|floordiv|mod|pow|matmul)__", name)
    return reflected.group(1) if reflected else name.strip("_")


def _is_attribute(function: Callable[..., Any]) -> bool:
    # `x.shape` and `x.T` arrive here as the getter of a property.
    return getattr(function, "__name__", "") in ("__get__", "__set__")
