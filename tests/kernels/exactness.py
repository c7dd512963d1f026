"""Prints how far the kernels are from float64, and PyTorch's float32 beside it, over drawn blocks.

``python -m tests.kernels.exactness`` makes the table in docs/cpu-engine.md; it takes some minutes.
"""

from __future__ import annotations

import os
from statistics import median

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from fivebyfive.kernels.library import VARIABLE, usable

from .drawing import blocks, distance, gradients, ordinary
from .rounding import measure

BLOCKS = 500
WHO = ("ours", "PyTorch")
#: In the order of :func:`~.drawing.gradients`; the last one is there only with a bias.
TENSORS = ("output", "input gradient", "weight gradient", "bias gradient")


class Errors:
    """The errors of one computation: each block's largest, and the tensors that are far off."""

    def __init__(self) -> None:
        self.worst: dict[str, list[float]] = {name: [] for name in TENSORS}
        self.count, self.far = 0, list[float]()

    def add(self, found, yardstick) -> None:
        tensors = zip(TENSORS, found, yardstick.exact, yardstick.magnitudes, strict=False)
        for name, a, b, size in tensors:
            error = (a.double() - b).abs() / size.clamp(min=1e-30)
            self.worst[name].append(error.max().item())
            self.count += 1
            if (far := distance(a, b)) > 1e-5:
                self.far.append(far)

    def row(self) -> str:
        parts = [
            f"{name} {max(worst):.1e} at most, median {median(worst):.1e}"
            for name, worst in self.worst.items()
        ]
        furthest = max(self.far, default=0.0)
        parts.append(f"{len(self.far)} of {self.count} beyond 1e-5, the furthest {furthest:.1e}")
        return "; ".join(parts)


def examine() -> tuple[list[Errors], int, int]:
    """Ours and PyTorch's errors; outputs no gradient was sent through, and how many there were."""
    errors = [Errors() for _ in WHO]
    undecided, outputs = [], []

    @seed(0)
    @settings(
        max_examples=BLOCKS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(blocks())
    def draw(drawn) -> None:
        network, shape, number = drawn
        x, out_grad = ordinary(network, shape, number)
        yardstick = measure(network, x, out_grad)
        undecided.append(int(yardstick.undecided.sum()))
        outputs.append(yardstick.undecided.numel())
        for each, fast in zip(errors, (True, False), strict=True):
            found = gradients(network, x, yardstick.out_grad, torch.float32, accelerated=fast)
            each.add(found, yardstick)

    draw()
    return errors, sum(undecided), sum(outputs)


def main() -> None:
    for isa in usable():
        os.environ[VARIABLE] = isa
        errors, undecided, outputs = examine()
        for who, each in zip(WHO, errors, strict=True):
            print(f"{isa}, {who}: {each.row()}", flush=True)
        print(f"{isa}: no gradient sent through {undecided} of {outputs} outputs", flush=True)


if __name__ == "__main__":
    main()
