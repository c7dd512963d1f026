"""The run folder: what a training leaves behind, made or opened.

    run.json            recipe, data digests, environment, state, and the result once there is one
    metrics.jsonl       a row a mark, an epoch and a notice
    model.safetensors   the weights after the last finished epoch
    curves.png          train loss, train accuracy and test accuracy

Every file but the growing log is written whole or not at all. Nothing here runs code or reads a
pickle; all of it can be read with JSON and safetensors alone.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from . import __version__, networks, recipes
from .errors import FiveByFiveError, NetworkError, RunError
from .files import replacing, write_json
from .networks.own import is_own
from .recipes import Recipe
from .watching.metrics import read as read_metrics

FORMAT = 1
INFO, METRICS, WEIGHTS, CURVES = "run.json", "metrics.jsonl", "model.safetensors", "curves.png"


def default_path(recipe: str, now: datetime | None = None) -> Path:
    """``runs/<date-time>-<recipe>``; with a number behind it where that is taken."""
    stamp = (now or datetime.now()).strftime("%Y%m%d-%H%M%S")
    first = Path("runs") / f"{stamp}-{recipe}"
    path, number = first, 2
    while path.exists():
        path, number = first.with_name(f"{first.name}-{number}"), number + 1
    return path


def check_free(path: Path) -> None:
    """Refuse a path that holds something already, or that no folder can be made at.

    Raises:
        RunError: naming the path and what is there.
    """
    if path.is_dir():
        if any(path.iterdir()):
            raise RunError(f"{path} exists and isn't empty; a run never overwrites. Name another.")
    elif path.exists():
        raise RunError(f"{path} is a file; expected the name of a new folder.")


def create(path: Path) -> None:
    """Make the folder.

    Raises:
        RunError: it holds something already, or can't be made or written to.
    """
    check_free(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with replacing(path / INFO) as probe:
            probe.write_text("{}")
    except OSError as error:
        raise RunError(
            f"can't write the run folder {path}: {error}. Choose one by --run."
        ) from error


def environment() -> dict[str, str | int]:
    """The versions and the machine that a result was had with."""
    return {
        "fivebyfive": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
    }


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the network's weights and buffers as safetensors, whole or not at all."""
    with replacing(path) as temporary:
        save_model(network, str(temporary), metadata={"format": "pt"})


@dataclass(frozen=True)
class Run:
    """A run folder that was opened: :func:`load` makes one.

    ``info`` is run.json as it stands; ``trained`` is the trained network where this process trained
    it, else ``None``.
    """

    path: Path
    info: dict[str, Any]
    recipe: Recipe
    trained: nn.Module | None = None

    @property
    def result(self) -> dict[str, Any] | None:
        """What ``train --json`` prints, or ``None`` for a run that didn't finish."""
        result: dict[str, Any] | None = self.info.get("result")
        return result

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the network's outputs."""
        return tuple(self.info["data"]["classes"])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The dataset's images as stored: channels, height, width (before any resizing)."""
        channels, height, width = self.info["data"]["shape"]
        return channels, height, width

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The images as the network sees them: channels, height, width."""
        channels, height, width = self.image_shape
        side = self.recipe.resize
        return (channels, side, side) if side else (channels, height, width)

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, oldest first."""
        return read_metrics(self.path / METRICS)

    def network(self, make: Callable[[], nn.Module] | None = None) -> nn.Module:
        """The network with the run's weights, in evaluation mode, on the CPU.

        Args:
            make: builds the network where it isn't one of the named ones. Its file is never run
                because a run folder names it.

        Raises:
            NetworkError: the network isn't a named one and ``make`` is missing, or the weights
                aren't there or don't fit.
        """
        if self.trained is not None and make is None:
            return self.trained
        network = (make or self._named)()
        path = self.path / WEIGHTS
        if not path.is_file():
            raise NetworkError(f"{path} isn't there: the run ended before its first epoch did.")
        try:
            load_model(network, path)
        except (SafetensorError, RuntimeError, OSError) as error:
            raise NetworkError(f"the weights in {path} don't fit the network: {error}") from error
        return network.eval()

    def _named(self) -> nn.Module:
        name = self.recipe.network
        if name not in networks.NETWORKS:
            way = f" (it was {name})" if is_own(name) else ""
            raise NetworkError(
                f"the run's network {name!r} isn't one of the named ones, and no code is run "
                f"because a run folder names it. Name it yourself: --network FILE.py:NAME{way}."
            )
        return networks.build(name, self.image_shape[0], len(self.classes))


def load(path: str | Path) -> Run:
    """Open a run folder.

    Raises:
        RunError: there is no run there, or its run.json can't be understood.
    """
    folder = Path(path)
    file = folder / INFO
    if not file.is_file():
        raise RunError(f"there is no run at {folder}: {INFO} is missing. Expected a run folder.")
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        if info["format"] != FORMAT:
            raise RunError(f"{file} has format {info['format']!r}; this version reads {FORMAT}.")
        run = Run(folder, info, recipes.from_dict(info["recipe"]))
        # Touched once here, so that what is missing is told here and not in the middle of a use.
        _ = run.input_shape, run.classes, run.result
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, FiveByFiveError):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise RunError(f"{file} can't be read as a run: {reason}.") from error
    return run


def write_info(path: Path, info: dict[str, Any]) -> None:
    """Write run.json; ``info`` lacks only the format number."""
    write_json(path / INFO, {"format": FORMAT, **info})
