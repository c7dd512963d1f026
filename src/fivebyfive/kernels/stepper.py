"""A whole training step in the library, for networks that are one chain from images to scores."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, fx, nn

from ..lib.torch_internals import hooked
from ..optimizers import KernelRule
from .blocks import Block, address, chain, empty, shapes
from .finding import find, passes
from .library import Images, Loss, Parameter, Update, kernels
from .tracing import trace


@dataclass(frozen=True)
class WholeNetwork:
    """A network that is nothing but a chain; ``normalised`` if a ``log_softmax`` follows it."""

    blocks: tuple[Block, ...]
    normalised: bool


def match_whole_network(network: nn.Module, shape: tuple[int, int, int]) -> WholeNetwork | None:
    """The chain that ``network`` is for images of ``shape``; ``None`` if it is anything else."""
    if kernels() is None or any(map(hooked, network.modules())):
        return None
    traced = trace(network)
    found = [] if traced is None else list(find(traced))
    if traced is None or len(found) != 1 or shapes(found[0].blocks, shape) is None:
        return None
    rest = [node for node in traced.graph.nodes if node not in found[0].nodes]
    start, *middle, end = rest
    if middle and passes(middle[0], start, torch.empty(1, *shape)):
        start, *middle = middle
    last = found[0].nodes[-1]
    if normalised := bool(middle) and _log_softmax(middle[0], last, traced):
        last, *middle = middle
    connected = found[0].nodes[0].args[0] is start and end.args == (last,) and not middle
    parameters = [p for block in found[0].blocks for p in block.parameters()]
    if not connected or any(p.dtype != torch.float32 or p.device.type != "cpu" for p in parameters):
        return None
    return WholeNetwork(tuple(found[0].blocks), normalised)


def _log_softmax(node: fx.Node, of: fx.Node, traced: fx.GraphModule) -> bool:
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        return type(module) is nn.LogSoftmax and module.dim in (1, -1) and node.args == (of,)
    if node.target not in (F.log_softmax, torch.log_softmax, "log_softmax"):
        return False
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    return node.args[0] is of and dim in (1, -1) and node.kwargs.get("dtype") is None


@dataclass
class StepSums:
    """Over images: losses and right answers; and the seconds it took, gathering apart."""

    loss: float = 0.0
    correct: int = 0
    gather_seconds: float = 0.0
    seconds: float = 0.0


class PlainOptimizer:
    """An optimizer's settings and moments alone; the library does the updates.

    ``param_groups`` and ``state`` are laid out as in PyTorch's optimizers, so that one of those can
    take over. Making one of those imports PyTorch's compiler, a second that a short training hasn't
    got.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, rule: KernelRule) -> None:
        self.param_groups = [{"params": list(parameters), "lr": lr, **rule.settings}]
        self.state: dict[Tensor, dict[str, Tensor]] = defaultdict(dict)


class Stepper:
    """Trains and tests a chain of blocks, in place, on images held as bytes or floats.

    The images and labels handed in must be contiguous and on the CPU, the labels (``int64``) within
    the classes, and ``order`` within the images: the library doesn't look.

    Args:
        whole: the network's chain; its last layer gives the class scores.
        shape: one image's ``(C, H, W)``.
        table: the 256 values that bytes stand for, ``float32 [256]``.
        optimizer: over the chain's parameters. Its settings are read at every step, and its moments
            are kept in its state, as its own ``step`` does.
        rule: how its step is taken.
    """

    def __init__(
        self,
        whole: WholeNetwork,
        shape: tuple[int, int, int],
        table: Tensor,
        optimizer: torch.optim.Optimizer | PlainOptimizer,
        rule: KernelRule,
    ) -> None:
        active, inputs = kernels(), shapes(whole.blocks, shape)
        assert active is not None
        assert inputs is not None
        self._kernels, self._optimizer, self._rule = active, optimizer, rule
        self._threads = torch.get_num_threads()
        self._table = table.float().contiguous()
        self._workspace = empty(0)
        self._blocks, self._inputs = whole.blocks, inputs
        self._parameters = [p for block in whole.blocks for p in block.parameters()]
        trained = {p for group in optimizer.param_groups for p in group["params"]}
        self._grads = [empty(*p.shape) if p in trained else None for p in self._parameters]
        self._describe()

    def _describe(self) -> None:
        """Tell the library where everything lies."""
        for parameter in self._parameters:
            parameter.data = parameter.data.contiguous()
        self._chain = chain(self._blocks, self._inputs, self._parameters, self._grads)
        pairs = [
            (p, g) for p, g in zip(self._parameters, self._grads, strict=True) if g is not None
        ]
        self._updates = (Parameter * len(pairs))()
        self._steps: list[Tensor] = []
        for entry, (parameter, grad) in zip(self._updates, pairs, strict=True):
            entry.value, entry.grad = address(parameter), address(grad)
            entry.size = parameter.numel()
            if self._rule.moments:
                state = self._optimizer.state[parameter]
                if not state:
                    state["step"] = empty().zero_()
                    for name in self._rule.moments:
                        state[name] = empty(*parameter.shape).zero_()
                for place, name in zip(("mean", "square"), self._rule.moments, strict=False):
                    state[name] = state[name].contiguous()
                    setattr(entry, place, address(state[name]))
                self._steps.append(state["step"])
        self._addresses = self._where()

    def _where(self) -> list[int]:
        """Where parameters and moments lie now: loading a checkpoint may put others in place."""
        states = (self._optimizer.state.get(p, {}) for p in self._parameters)
        moments = [t for state in states for t in state.values() if isinstance(t, Tensor)]
        return [t.data_ptr() for t in (*self._parameters, *moments)]

    def train(self, images: Tensor, labels: Tensor, order: Tensor | None, sums: StepSums) -> None:
        """Take one step on the images that ``order`` (``int64``) picks, or all; add to ``sums``."""
        begin = time.perf_counter()
        self._call(self._kernels.step, images, labels, order, sums, keep=True)
        self._update()
        sums.seconds += time.perf_counter() - begin

    def evaluate(self, images: Tensor, labels: Tensor, sums: StepSums) -> None:
        """Add losses and right answers of all ``images`` to ``sums``."""
        begin = time.perf_counter()
        self._call(self._kernels.evaluate, images, labels, None, sums, keep=False)
        sums.seconds += time.perf_counter() - begin

    def _call(
        self,
        function: Any,
        images: Tensor,
        labels: Tensor,
        order: Tensor | None,
        sums: StepSums,
        keep: bool,
    ) -> None:
        if self._where() != self._addresses:
            self._describe()
        count = len(labels if order is None else order)
        table = self._table if images.dtype == torch.uint8 else None
        batch = Images(address(images), address(table), address(order), count)
        loss = Loss(address(labels))
        floats = self._kernels.workspace(self._chain, count, keep, self._threads)
        if len(self._workspace) < floats:
            self._workspace = empty(floats)
        function(self._chain, batch, address(self._workspace), self._threads, loss)
        sums.loss += loss.sum
        sums.correct += loss.correct
        sums.gather_seconds += loss.gather_seconds

    def _update(self) -> None:
        if self._steps:
            torch._foreach_add_(self._steps, 1)
        update, step = Update(), float(self._steps[0]) if self._steps else 0.0
        self._rule.fill(update, self._optimizer.param_groups[0], step)
        self._kernels.update(self._updates, len(self._updates), self._threads, update)
