"""Which layers of a network run in the CPU engine's kernels, and why the others don't."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch

from ..kernels.analysis import Analysis, Refusal
from ..kernels.finding import MISPLACED
from ..optimizers import OPTIMIZERS
from ..recipes import Loss

#: So many reasons are told in words; a program gets all.
_TOLD = 3


@dataclass(frozen=True)
class Coverage:
    """How many of a network's ``layers`` run in the kernels; PyTorch computes the others.

    A layer is an operation that computes: a convolution, an activation, a pooling, an addition.
    What only lays values out anew (``Flatten``, ``view``) isn't counted; in a network that can't be
    traced its modules are. ``refusals`` say why not all of it is in the kernels. ``whole`` is
    whether loss and optimizer are, too, and a training step is one call.
    """

    kernel_layers: int = 0
    layers: int = 0
    refusals: tuple[Refusal, ...] = ()
    whole: bool = False

    def __str__(self) -> str:
        """In a line: ``5 of 9 layers; in PyTorch: BatchNorm2d, Dropout (no kernel)``."""
        if not self.layers and not self.refusals:
            return "none; PyTorch computes all layers"
        if self.whole:
            return f"all {self.layers} layers, the loss and the optimizer"
        if self.kernel_layers == self.layers:
            part = f"all {self.layers} layers"
        else:
            part = f"{self.kernel_layers or 'none'} of {self.layers} layers"
        reasons = self._reasons()
        left = len(reasons) - _TOLD
        more = [f"{left} more reason{'s' if left > 1 else ''}"] if left > 0 else []
        return "; in PyTorch: ".join(filter(None, (part, ", ".join(reasons[:_TOLD] + more))))

    def _reasons(self) -> list[str]:
        """The refused layers, those with the same reason together."""
        by_reason: dict[str, Counter[str]] = {}
        # What is only a consequence of the others comes last.
        for each in sorted(self.refusals, key=lambda each: each.reason == MISPLACED):
            by_reason.setdefault(each.reason, Counter())[each.type] += 1
        told = []
        for reason, types in by_reason.items():
            names = [f"{n} × {type_}" if n > 1 else type_ for type_, n in types.items()]
            many = len(names) > _TOLD
            told.append(f"{f'{types.total()} layers' if many else ', '.join(names)} ({reason})")
        return told


def coverage_of(analysis: Analysis, loss: Loss, optimizer: str = "sgd") -> Coverage:
    """What the CPU engine runs in its kernels of a network that it trains with these."""
    layers, refusals = analysis.layers, list(analysis.refusals)
    if analysis.graph is None:
        return Coverage(0, layers, analysis.refusals)
    types = analysis.types - {torch.float32}
    if types:
        names = " and ".join(sorted(str(each).removeprefix("torch.") for each in types))
        reason = f"parameters of type {names}, the kernels' are float32"
        return Coverage(0, layers, (Refusal("", "all", reason),))
    if analysis.whole is not None:
        if loss == "nll" and not analysis.whole.normalised:
            reason = "nll, but no log_softmax at the end"
        elif OPTIMIZERS[optimizer].rule is None:
            reason = f"no kernel for {optimizer}"
        else:
            return Coverage(layers, layers, (), whole=True)
        refusals.append(Refusal("", "loss and optimizer", reason))
    if not analysis.convolves:
        # Linear layers alone are as fast in PyTorch, and convolutions stay channels last.
        reason = "no convolution runs in the kernels, and without one PyTorch is as fast"
        refusals += [each for s in analysis.segments for each in analysis.refuse(s, reason)]
        return Coverage(0, layers, tuple(refusals))
    return Coverage(layers - len(analysis.refusals), layers, tuple(refusals))
