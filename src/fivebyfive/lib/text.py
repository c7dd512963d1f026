"""Plain text: of anything that rich can draw, and of names too long for their place."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType


def plain(drawing: RenderableType, width: int = 120) -> str:
    """``drawing`` without colour, ``width`` columns wide at most, with no blank line at the end."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(drawing)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).rstrip()


def short(name: str, most: int = 18) -> str:
    """``name``, cut to ``most`` characters if it is longer."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
