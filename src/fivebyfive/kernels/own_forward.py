"""Networks with a ``forward`` of their own: what it does is asked of TorchDynamo.

Dynamo follows the forward's code without running it, and guards everything that it relied on:
values read from modules, containers, classes and globals, the mode, the shapes. At each call it
checks them in microseconds, and looks anew where one fails. Here the graph that it finds isn't run:
what it would be run with is handed out. A forward that Dynamo can't follow in one piece, or that
changes anything beside its result, is refused, and PyTorch runs it.

Importing Dynamo takes about a second, and a first look a quarter of one.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..lib.torch_internals import hooked
from .forward import Forward

#: After so many different graphs a forward is taken for one that is another each time.
MOST_GRAPHS = 8

#: One look at a time: the policy on side effects is the whole process's.
_ONE_AT_A_TIME = threading.RLock()


class OwnForward:
    """See :class:`~fivebyfive.kernels.forward.View`."""

    def __init__(self, network: nn.Module) -> None:
        self.refusal = ""
        self._network = network
        self._forwards: list[Any] = []
        self._dynamo: _Dynamo | None = None
        self._refused: dict[object, str] = {}  # by kind of call, since each try takes its time

    def look(self, *args: Any, **kwargs: Any) -> Forward | None:
        """What the forward does with these inputs."""
        modules = list(self._network.modules())
        if any(map(hooked, modules)):
            self.refusal = "hooks on its modules, or another forward put into one"
            return None
        # Of PyTorch's own layers Dynamo takes the code for granted.
        forwards, kind = [type(module).forward for module in modules], _kind(args, kwargs)
        with _ONE_AT_A_TIME:
            if forwards != self._forwards:
                self._forwards, self._dynamo, self._refused = forwards, None, {}
            last = next(reversed(self._refused.values()), "") if self._full() else ""
            self.refusal = self._refused.get((self._network.training, kind), last)
            if self.refusal:
                return None
            try:
                self._dynamo = self._dynamo or _Dynamo(self._network)
                return self._dynamo(self._network, args, kwargs)
            except Exception as error:  # Dynamo may fail in any way, and the user's code, too
                self.refusal = self._refused[self._network.training, kind] = _why(error)
                return None

    def _full(self) -> bool:
        return len(self._refused) >= MOST_GRAPHS


def _kind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """What decides whether a call can be followed, as far as its inputs do."""
    given = [*args, *kwargs.values()]
    shapes = [
        (each.shape, each.dtype) if isinstance(each, Tensor) else type(each) for each in given
    ]
    return torch.is_grad_enabled(), tuple(kwargs), tuple(shapes)


class _NotSeenError(Exception):
    """What was found is of no use; the text says why."""


class _Dynamo:
    """A network's forward compiled by Dynamo to something that only hands out what it was given."""

    def __init__(self, network: nn.Module) -> None:
        import torch._dynamo as dynamo

        if not hasattr(dynamo.config, "side_effect_replay_policy"):
            raise _NotSeenError("this version of PyTorch doesn't tell whether forward does more")

        # The code of a function is where Dynamo keeps what it knows; each network has its own.
        def call(network: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if not torch.compiler.is_compiling():  # nothing may be done for real
                raise RuntimeError("TorchDynamo is switched off, or leaves it alone")
            return network.forward(*args, **kwargs)

        call.__code__ = call.__code__.replace(co_name=type(network).__name__)
        self._compiled = torch.compile(call, backend=_backend, fullgraph=True)
        # A number that has changed once would be taken for one that may be any, and come in wrong.
        self._strict = dynamo.config.patch(
            side_effect_replay_policy="error", specialize_float=True, specialize_int=True
        )
        self._graphs = 0

    def __call__(
        self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Forward:
        if self._graphs >= MOST_GRAPHS:
            raise _NotSeenError(f"forward was another one {MOST_GRAPHS} times")
        _handed_out.clear()
        with self._strict, _quiet.on(first=not self._graphs), _generators_left_alone():
            result = self._compiled(network, *args, **kwargs)
        graph, inputs, signs, new = _handed_out.pop()
        self._graphs += new
        if len(signs) != 1 or result is not signs[0]:
            raise _NotSeenError("forward gives something else than one tensor")
        return Forward(graph, inputs, args[0] if args else None)


#: What the function that stands for a graph was called with last: under the lock, so by this look.
_handed_out: list[tuple[fx.GraphModule, tuple[Any, ...], tuple[Tensor, ...], bool]] = []


# One for all networks, and it knows of none: Dynamo keeps the backends that it has seen for ever.
def _backend(found: fx.GraphModule, _: list[Any]) -> Callable[..., tuple[Tensor, ...]]:
    graph, results = _described(found), len(_results(found))
    calls = itertools.count()

    def hand_out(*inputs: Any) -> tuple[Tensor, ...]:
        signs = tuple(torch.empty(0) for _ in range(results))
        _handed_out.append((graph, inputs, signs, next(calls) == 0))
        return signs

    return hand_out


def _results(found: fx.GraphModule) -> tuple[Any, ...]:
    (output,) = (node for node in found.graph.nodes if node.op == "output")
    return tuple(output.args[0])


class _Quiet(logging.Filter):
    """Keeps to itself what Dynamo logs and warns of what it can't follow: its error tells that."""

    _thread = 0

    @contextlib.contextmanager
    def on(self, first: bool) -> Iterator[None]:
        """Around a look; the ``first`` is the one at which Dynamo warns."""
        self._thread = threading.get_ident()
        with warnings.catch_warnings() if first else contextlib.nullcontext():
            if first:
                warnings.simplefilter("ignore")
                for name in ("torch", "torch._dynamo", "torch._subclasses.fake_tensor"):
                    for handler in logging.getLogger(name).handlers:
                        handler.addFilter(self)  # if it isn't there yet
            try:
                yield
            finally:
                self._thread = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is another thread's."""
        return record.thread != self._thread


_quiet = _Quiet()


@contextlib.contextmanager
def _generators_left_alone() -> Iterator[None]:
    """Keep Dynamo from putting the process's generators back to where it found them.

    It draws nothing itself; what other threads have drawn meanwhile would be drawn again.
    """
    here, before = threading.get_ident(), []
    for module, name in ((torch.random, "set_rng_state"), (random, "setstate")):
        put_back = getattr(module, name)
        before.append((module, name, put_back))
        setattr(module, name, _elsewhere(here, put_back))
    try:
        yield
    finally:
        for module, name, put_back in before:
            setattr(module, name, put_back)


def _elsewhere(here: int, put_back: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda state: None if threading.get_ident() == here else put_back(state)


def _described(found: fx.GraphModule) -> fx.GraphModule:
    """A copy that says of each node which layer it belongs to, and whether it lays images flat."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in found.graph.nodes:
        if node.op == "output":
            graph.output(next(map(copies.get, node.args[0])))
            continue
        copies[node] = new = graph.node_copy(node, copies.__getitem__)
        new.meta = {}
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path, kind = stack[-1] if stack else ("", object)
        if kind.__module__.startswith("torch.nn.modules."):
            new.meta["layer"] = path.partition(".")[2], kind.__name__
            # Each call of a layer has another key.
            new.meta["call"] = list(node.meta["nn_module_stack"])[-1]
        new.meta["flattens"] = _flattens(node)
    return fx.GraphModule(found, graph)


def _flattens(node: fx.Node) -> bool:
    """Whether a node makes one row of each of some images, and takes no number but theirs."""
    if not node.all_input_nodes:
        return False
    images, *sizes = node.all_input_nodes
    before, after = _shape(images), _shape(node)
    return (
        len(before) == 4
        and len(after) == 2
        and before[0] == after[0]
        and all(str(size.meta.get("example_value")) == before[0] for size in sizes)
    )


def _shape(node: fx.Node) -> list[str]:
    """The shape of a node's value, with names for sizes that may be any."""
    return [str(size) for size in getattr(node.meta.get("example_value"), "shape", ())]


def _why(error: Exception) -> str:
    """What kept a forward from being seen, in a line."""
    if isinstance(error, _NotSeenError):
        return str(error)
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    if "side effects" in text:
        return "forward changes something beside its result"
    return f"forward can't be followed in one piece: {text}"
