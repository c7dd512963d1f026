"""A whole training step in the library, for networks that are one chain from images to scores."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..optimizers import KernelRule
from .analysis import WholeNetwork
from .blocks import address, chain, empty, shapes
from .library import Images, Loss, Parameter, Update, kernels


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
        self._parameters = list(whole.parameters)
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
                for place, name in zip(
                    ("first_moment", "second_moment"), self._rule.moments, strict=False
                ):
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

    def workspace(self, count: int, *, keep: bool) -> int:
        """How many floats the library works in for ``count`` images at once.

        ``keep`` is whether what the backward pass needs is kept: in training, not in a test.
        """
        return int(self._kernels.workspace(self._chain, count, keep, self._threads))

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
        if len(self._workspace) < (floats := self.workspace(count, keep=keep)):
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
