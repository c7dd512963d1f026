"""Tracing: a network's ``forward`` as a graph of steps, where that is all the forward does.

:mod:`torch.fx` runs the forward once, with stand-ins for tensors, and writes down what is done to
them. Whatever else a forward does the graph would lose, so such a network is not traced.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import operator
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx, nn

from ..lib.private_draws import OtherGenerators, PrivateDraws
from ..lib.torch_internals import being_traced, hooked, in_checkpoint

#: While fx traces, it changes what calling a module does; two threads would undo the wrong change.
_ONE_AT_A_TIME = threading.RLock()


class NotTraceableError(Exception):
    """The forward can't be traced, or does what a graph doesn't show; the text says what."""


def trace(network: nn.Module) -> fx.GraphModule:
    """The network as a graph of steps.

    Not traced is a ``forward`` that

    - takes anything but tensors: an input left out, which is then ``None``, would be taken for one;
    - asks what its input is (``isinstance``), or decides by its values;
    - reads its own parameters, or makes tensors that don't depend on its input (they might be
      random): the trace would hold on to what it saw the first time;
    - draws random numbers, keeps or counts something on its modules, or changes their buffers;
    - turns gradients, autocast or checkpointing on or off for a part, or calls a
      :class:`torch.autograd.Function`.

    Raises:
        NotTraceableError: it is one of those.
    """
    _check_inputs(network)
    with _ONE_AT_A_TIME, PrivateDraws(0) as draws:
        before = _Surroundings(network)
        problem = ""
        try:
            with torch.enable_grad(), _owned():
                graph = _Tracer().trace(network)
        except Exception as error:  # a forward is the user's own code: it may raise anything
            problem = _why(error)
        problem = before.put_back() or problem
        if draws.drew:
            problem = "forward draws random numbers"
    if problem:
        raise NotTraceableError(problem)
    if any(node.op == "get_attr" for node in graph.nodes):
        raise NotTraceableError("forward reads a parameter or buffer itself, or makes tensors")
    return fx.GraphModule(network, graph)


#: The thread that is tracing, if one of ours is.
_owner: int | None = None


@contextlib.contextmanager
def _owned() -> Iterator[None]:
    global _owner  # noqa: PLW0603 (fx's own flag is one, too)
    before, _owner = _owner, threading.get_ident()
    try:
        yield
    finally:
        _owner = before


def traced_here() -> bool:
    """Whether torch.fx is writing down what this thread does; its own flag is for all threads."""
    return being_traced() and _owner in (None, threading.get_ident())


def _check_inputs(network: nn.Module) -> None:
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    for name, given in inspect.signature(type(network).forward).parameters.items():
        if given.default is not given.empty:
            raise NotTraceableError(f"forward has an optional input, {name!r}")
        if given.kind not in plain:
            raise NotTraceableError(f"forward takes any number of inputs, or keywords ({name!r})")


def _why(error: Exception) -> str:
    """What kept a forward from being traced, in a line."""
    if isinstance(error, NotTraceableError):
        return str(error)
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    if "control flow" in text:  # torch.fx's own
        return "forward decides by the values of its input"
    return f"forward can't be traced: {text}"


class _StandIn(fx.Proxy):
    """Stands for a value in a trace; to the question what it is there is no right answer."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # where isinstance looks second
        asks = sys._getframe(1).f_globals.get("__name__", "")
        # The second is where autograd functions look at what they are applied to.
        if asks == "torch._functorch.utils":
            raise NotTraceableError("forward calls an autograd function")
        if not asks.startswith("torch."):
            raise NotTraceableError("forward asks what its input is (isinstance)")
        return fx.Proxy


class _Tracer(fx.Tracer):
    """Looks into every container but those with hooks, which a trace would lose."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()
        self._context = _context()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether ``m`` is one step of the trace."""
        return hooked(m) or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """What the forward gets in place of a value."""
        return _StandIn(node, self)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Write down a step."""
        if _context() != self._context:
            raise NotTraceableError("forward turns gradients, autocast or checkpointing on or off")
        return super().create_node(*args, **kwargs)

    # Meanwhile other threads' modules come here too, with real tensors.

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call a module, or write its call down."""
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        """Read a module's attribute."""
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def _context() -> tuple[object, ...]:
    """What decides, beside its inputs, what an operation does and what autograd keeps of it."""
    nesting = torch.autocast_increment_nesting()
    torch.autocast_decrement_nesting()
    return torch.is_grad_enabled(), nesting, in_checkpoint()


class _Surroundings:
    """What a forward may change beside giving a result: its modules, and random states."""

    def __init__(self, network: nn.Module) -> None:
        held = [vars(module) for module in network.modules()]
        inner = [each for one in held for each in one.values() if isinstance(each, _CONTAINERS)]
        self._containers: list[tuple[Any, Any]]
        self._containers = [(each, copy.copy(each)) for each in (*held, *inner)]
        buffers = [each for each in network.buffers() if not each.is_inference()]
        self._buffers = [(each, each._version, each.clone()) for each in buffers]
        self._others = OtherGenerators(network)

    def put_back(self) -> str:
        """Put back what has changed; says what that was, empty if nothing."""
        unchanged = {
            "forward draws random numbers": self._put_back_random(),
            "forward changes a buffer": self._put_back_buffers(),
            "forward keeps something on its modules": self._put_back_held(),
        }
        return next((what for what, was in unchanged.items() if not was), "")

    def _put_back_buffers(self) -> bool:
        changed = [(now, old) for now, version, old in self._buffers if now._version != version]
        with torch.no_grad():
            for now, old in changed:
                now.copy_(old)
        return not changed

    def _put_back_held(self) -> bool:
        changed = [(now, old) for now, old in self._containers if not same(_flat(now), _flat(old))]
        for now, old in changed:
            if isinstance(now, dict):  # maybe a module's own, which other threads go on reading
                for key in now.keys() - old.keys():
                    del now[key]
            else:
                now.clear()
            (now.extend if isinstance(now, list | deque) else now.update)(old)
        return not changed

    def _put_back_random(self) -> bool:
        if not self._others.moved():
            return True
        self._others.put_back()
        return False


_CONTAINERS = (list, dict, set, deque)


def _flat(container: Any) -> list[Any]:
    return [*container, *(container.values() if isinstance(container, dict) else ())]


def holds(network: nn.Module) -> list[object]:
    """What hangs on the network's modules.

    Parameters aren't looked at, as they are read anew each time.
    """
    return [
        value
        for module in network.modules()
        for value in (type(module), *vars(module).values(), *module._buffers.values())
    ]


def same(some: list[Any], others: list[Any]) -> bool:
    """Whether both hold the very same objects."""
    return len(some) == len(others) and all(map(operator.is_, some, others))
