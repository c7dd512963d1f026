"""The layers as a table for a terminal, which leaves out columns where the terminal is narrow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ..lib.units import scaled, size
from .receptive_field import Field
from .shape_errors import spell
from .trace import Layer

if TYPE_CHECKING:
    from .layers import Layers

_COLUMNS: dict[str, Callable[[Layer], str]] = {
    "layer": lambda row: row.name,
    "type": lambda row: row.type if row.kind == "module" else "function",
    "input": lambda row: _times(row.input_shape[1:]),
    "output": lambda row: _times(row.output_shape[1:]),
    "parameters": lambda row: f"{row.parameters:,}" if row.parameters else "–",
    "FLOPs": lambda row: scaled(row.flops, 4) if row.flops else "–",
    "memory": lambda row: size(row.activation_bytes),
    "sees": lambda row: str(Field(row.receptive_field, row.effective_stride)),
}
_LEFT = ("layer", "type")
# What a narrow terminal does without, the most dispensable first.
_DISPENSABLE = ("memory", "sees", "FLOPs", "input", "type")


def render(layers: Layers, console: Console, options: ConsoleOptions) -> RenderResult:
    """The table, the totals, and the memory of a training step, for ``console``."""
    columns = list(_COLUMNS)
    table = _rows(layers, columns)
    unbounded = options.update(max_width=10_000)
    for name in _DISPENSABLE:
        if Measurement.get(console, unbounded, table).maximum <= options.max_width:
            break
        columns.remove(name)
        table = _rows(layers, columns)
    yield Text(f"{layers.network}, one image of {spell(layers.input_shape)}", style="bold")
    yield table
    yield Text()
    yield _totals(layers)
    yield Text(f"\nin the kernels on a CPU: {layers.coverage}")


def _rows(layers: Layers, columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in columns:
        justify: JustifyMethod = "left" if name in _LEFT else "right"
        table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis")
    for row in layers.rows:
        style = "" if row.kind == "module" else "dim"
        table.add_row(*(Text(_COLUMNS[name](row)) for name in columns), style=style)
    return table


def _totals(layers: Layers) -> Table:
    memory = layers.memory
    images = "1 image" if layers.batch_size == 1 else f"{layers.batch_size:,} images"
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_row("parameters", f"{layers.parameters:,}")
    table.add_row("forward, one image", scaled(layers.flops_forward, 4, "FLOP"))
    table.add_row("forward and backward", scaled(layers.flops_training, 4, "FLOP"))
    table.add_row("outputs, one image", size(layers.activation_bytes))
    table.add_row()
    table.add_row(f"training, {images}", size(memory.total))
    table.add_row("  weights", size(memory.weights))
    table.add_row("  gradients", size(memory.gradients))
    table.add_row(f"  {layers.optimizer}'s state", size(memory.optimizer))
    table.add_row("  kept activations", size(memory.activations))
    table.add_row("  images", size(memory.images))
    table.add_row("  workspace", size(memory.workspace))
    return table


def _times(shape: Sequence[int]) -> str:
    return "×".join(str(length) for length in shape) or "–"
