"""Optimizers: what recipes, engines, kernels and the memory estimate know of each, in one record.

To add one, write its record into :data:`OPTIMIZERS` and its name into ``Optimizer`` in recipes.py.
PyTorch computes it then, with every engine. A rule for the kernels is for those that the C++ in
``kernels/cpp/update.h`` knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class KernelRule:
    """How the kernels take an optimizer's step.

    Attributes:
        fill: writes the C structure ``Update`` from a parameter group and the number of the step,
            which counts from 1.
        settings: what PyTorch's parameter groups hold for it beside the learning rate.
        moments: what PyTorch calls the first and the second moment in its state, if there are any.
    """

    fill: Callable[[Any, Mapping[str, Any], float], None]
    settings: Mapping[str, Any] = field(default_factory=dict)
    moments: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptimizerSpec:
    """One optimizer.

    Attributes:
        name: what recipes call it.
        torch_name: its class in ``torch.optim``. Its step must write nothing before it has all the
            memory that it needs, so that it can be tried again; PyTorch's fused ones hold to that.
        usual_lr: the learning rate that comes with a change to this optimizer.
        state: numbers that it keeps for each number it trains.
        keywords: for the class, beside parameters and learning rate.
        rule: how the kernels take its step; ``None``: PyTorch takes it.
    """

    name: str
    torch_name: str
    usual_lr: float
    state: int
    keywords: Mapping[str, Any] = field(default_factory=dict)
    rule: KernelRule | None = None


def _fill_sgd(update: Any, group: Mapping[str, Any], _: float) -> None:
    update.rate = group["lr"]


def _fill_adam(update: Any, group: Mapping[str, Any], step: float) -> None:
    beta1, beta2 = group["betas"]
    update.adam, update.beta1, update.beta2, update.eps = True, beta1, beta2, group["eps"]
    update.rate = group["lr"] / (1 - beta1**step)
    update.root = math.sqrt(1 - beta2**step)


OPTIMIZERS: dict[str, OptimizerSpec] = {
    each.name: each
    for each in (
        OptimizerSpec(
            name="sgd",
            torch_name="SGD",
            usual_lr=0.1,
            state=0,
            keywords={"fused": True},
            rule=KernelRule(_fill_sgd),
        ),
        OptimizerSpec(
            name="adam",
            torch_name="Adam",
            usual_lr=0.001,
            state=2,
            keywords={"fused": True},
            rule=KernelRule(
                _fill_adam,
                settings={"betas": (0.9, 0.999), "eps": 1e-8},
                moments=("exp_avg", "exp_avg_sq"),
            ),
        ),
    )
}
