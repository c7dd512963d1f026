"""What a network is made of: its layers with shapes, parameters and costs, without running it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console, ConsoleOptions, RenderResult
from torch import nn

from ..engines.coverage import Coverage, coverage_of
from ..kernels.accelerate import Fused
from ..lib.errors import RecipeError, ShapeError
from ..lib.text import plain
from ..memory.step import Memory, measure
from ..optimizers import OPTIMIZERS
from ..recipes import Loss
from . import table as layers_table
from .shape_errors import spell
from .trace import Layer, trace


@dataclass(frozen=True, repr=False)
class Layers:
    """The layers of one network, in the order they run, and what they come to.

    ``rows``, ``flops_forward``, ``flops_training`` (forward and backward) and ``activation_bytes``
    (the sum of all rows' outputs) are for one image; ``memory`` is for ``batch_size`` images.
    ``parameters`` counts those of the whole network, whether a row uses them or not. ``coverage``
    tells what the CPU engine runs in its kernels here. Print it, to a ``rich`` console or plainly,
    for a table.
    """

    network: str
    input_shape: tuple[int, int, int]
    batch_size: int
    optimizer: str
    rows: tuple[Layer, ...]
    parameters: int
    flops_forward: int
    flops_training: int
    activation_bytes: int
    memory: Memory
    coverage: Coverage

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; shapes are lists."""
        memory = {**dataclasses.asdict(self.memory), "total": self.memory.total}
        plain_values: dict[str, Any] = _listed({**dataclasses.asdict(self), "memory": memory})
        return plain_values

    def as_book(self, words: str = "output shape:") -> str:
        """The lines that the books print for a network, one a layer."""
        return "\n".join(
            f"{row.type} {words}\t {torch.Size(row.output_shape)}" for row in self.rows
        )

    def __repr__(self) -> str:
        return plain(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return layers_table.render(self, console, options)


def describe(
    network: nn.Module,
    input_shape: tuple[int, int, int],
    batch_size: int = 1,
    optimizer: str = "sgd",
    name: str | None = None,
    loss: Loss = "cross-entropy",
) -> Layers:
    """Every layer of ``network`` for images of ``input_shape`` (C, H, W), and the totals.

    Nothing is computed and no memory of the network's size is taken: it all happens on PyTorch's
    meta device. The network stays as it is, in its mode, without hooks. It is called ``name``, or
    by its class. Trained with ``loss``, it may run whole in the CPU engine's kernels.

    Raises:
        ShapeError: the network doesn't take such images; says which it would.
        NetworkError: its forward can't run on the meta device.
        RecipeError: a batch size below 1, or an optimizer nobody knows.
    """
    _check(input_shape, batch_size, optimizer)
    rows = tuple(trace(network, input_shape))
    images = torch.empty(2, *input_shape, device=_device(network))
    memory, flops = measure(network, input_shape, batch_size, optimizer)
    return Layers(
        network=name or type(network).__name__,
        input_shape=input_shape,
        batch_size=batch_size,
        optimizer=optimizer,
        rows=rows,
        parameters=sum(p.numel() for p in network.parameters()),
        flops_forward=sum(row.flops for row in rows),
        flops_training=flops // batch_size,
        activation_bytes=sum(row.activation_bytes for row in rows),
        memory=memory,
        coverage=coverage_of(Fused(network).analyse(images), loss, optimizer),
    )


def _device(network: nn.Module) -> torch.device:
    return next((p.device for p in network.parameters()), torch.device("cpu"))


def _check(input_shape: tuple[int, int, int], batch_size: int, optimizer: str) -> None:
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ShapeError(
            f"the input shape is {spell(input_shape)}; expected channels, height and width, "
            "each at least 1, such as --input 1x28x28."
        )
    if batch_size < 1:
        raise RecipeError(f"batch_size is {batch_size}; expected a whole number of at least 1.")
    if optimizer not in OPTIMIZERS:
        known = ", ".join(sorted(OPTIMIZERS))
        raise RecipeError(f"optimizer is {optimizer!r}; expected one of {known}.")


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value
