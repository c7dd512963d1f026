"""Saying why a network doesn't take an image, and which one it would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ..lib import meta_device as meta
from ..lib.errors import NetworkError, ShapeError

# Sides of the images that classic networks were made for, the likeliest first.
_USUAL_SIDES = (28, 32, 224, 227, 64, 96, 128, 256, 299)


@dataclass(frozen=True)
class Running:
    """A module that was entered: its path, itself, and the shape ``[N, …]`` that came in."""

    name: str
    module: nn.Module
    input_shape: tuple[int, ...]


def explain(
    network: nn.Module,
    shape: tuple[int, int, int],
    error: Exception,
    running: Sequence[Running],
) -> NetworkError:
    """The error to raise when the network failed on the meta device with ``error``.

    ``running`` are the modules that were at work, outermost first. A ``ShapeError`` where the shape
    seems to be at fault, a plain ``NetworkError`` for anything else.
    """
    where = _where(running)
    said = str(error).strip().split("\n")[0] or type(error).__name__
    if "meta" in said or "item()" in said:
        return NetworkError(
            f"the layers can't be worked out without running the network: {where} needs the values "
            f"of its tensors, not only their shapes ({said}). Let the forward pass depend on "
            "shapes alone, and keep every tensor it uses as a parameter or a buffer."
        )
    reason = _expectation(running)
    if reason is None and not isinstance(error, RuntimeError | ValueError | IndexError):
        return NetworkError(
            f"the network's forward raised {type(error).__name__}: {said} (in {where}). "
            "Mend the network, then ask again."
        )
    reason = reason or f"{where} failed: {said.rstrip('.')}"
    return ShapeError(
        f"the network doesn't take images of {spell(shape)}: {reason}. {_advice(network)}"
    )


def spell(shape: Sequence[int]) -> str:
    """A shape as the shell takes it: ``1x28x28``."""
    return "x".join(str(size) for size in shape)


def _where(running: Sequence[Running]) -> str:
    if not running or not running[-1].name:
        return "its forward"
    last = running[-1]
    return f"{last.name!r} ({type(last.module).__name__})"


def _expectation(running: Sequence[Running]) -> str | None:
    """What the layer that failed expected and what came, if that is what was wrong with it."""
    if not running:
        return None
    layer, shape, where = running[-1].module, running[-1].input_shape, _where(running)
    if isinstance(layer, nn.Conv2d) and len(shape) == 4 and shape[1] != layer.in_channels:
        expected = "1 channel" if layer.in_channels == 1 else f"{layer.in_channels} channels"
        return f"{where} expects {expected} and got {shape[1]}"
    if isinstance(layer, nn.Linear) and shape and shape[-1] != layer.in_features:
        return f"{where} expects {layer.in_features} features and got {shape[-1]}"
    return None


def _advice(network: nn.Module) -> str:
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for channels in (convolutions[0].in_channels,) if convolutions else (1, 3):
        for side in _USUAL_SIDES:
            if meta.runs(network, (channels, side, side)):
                fits = spell((channels, side, side))
                return f"It does take {fits}: give --input {fits}."
    return "Give the shape it was made for with --input CHANNELSxHEIGHTxWIDTH."
