"""The run folder: what a training leaves behind, made or opened.

    run.json            recipe, data digests, environment, state, and the result once there is one
    metrics.jsonl       a row a mark, an epoch and a notice
    model.safetensors   the weights after the last finished epoch
    curves.png          train loss, train accuracy and test accuracy

Every file but the growing log is written whole or not at all. Nothing here runs code or reads a
pickle; all of it can be read with JSON and safetensors alone.
"""

from __future__ import annotations

import copy
import itertools
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
from .randomness import kept
from .recipes import Recipe
from .watching.metrics import read as read_metrics

FORMAT = 1
INFO, METRICS, WEIGHTS, CURVES = "run.json", "metrics.jsonl", "model.safetensors", "curves.png"


def check_free(path: Path) -> None:
    """Refuse a path that holds something already.

    Raises:
        RunError: naming the path and what is there.
    """
    if path.is_dir():
        if any(path.iterdir()):
            raise RunError(f"{path} exists and isn't empty; a run never overwrites. Name another.")
    elif path.exists():
        raise RunError(f"{path} is a file; expected the name of a new folder.")


def create(path: Path) -> Path:
    """Make the folder and claim it: of several processes that try, one gets it.

    Raises:
        RunError: it holds something already, or can't be made or written to.
    """
    try:
        check_free(path)
        path.mkdir(parents=True, exist_ok=True)
        (path / INFO).touch(exist_ok=False)
    except FileExistsError:
        raise RunError(f"{path} was just taken by another run. Name another.") from None
    except OSError as error:
        message = f"can't write the run folder {path}: {error}. Choose another by --run."
        raise RunError(message) from error
    return path


def create_default(name: str) -> Path:
    """Make ``runs/<date-time>-<name>``, with a number behind it where that is taken.

    Raises:
        RunError: it can't be made or written to.
    """
    stamped = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}"
    for number in itertools.count(1):
        path = stamped if number == 1 else stamped.with_name(f"{stamped.name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError:
            pass  # told by create
        return create(path)
    raise AssertionError


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
    """Write the network's weights and buffers as safetensors, whole or not at all.

    Raises:
        RunError: they can't be written.
    """
    try:
        with replacing(path) as temporary:
            save_model(network, str(temporary), metadata={"format": "pt"})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunError(f"can't write the weights to {path}: {error}.") from error


def write_info(path: Path, info: dict[str, Any]) -> None:
    """Write run.json; ``info`` lacks only the format number.

    Raises:
        RunError: it can't be written.
    """
    try:
        write_json(path / INFO, {"format": FORMAT, **info})
    except OSError as error:
        raise RunError(f"can't write {path / INFO}: {error}.") from error


@dataclass(frozen=True, repr=False)
class Run:
    """A run folder that was opened: :func:`load` makes one.

    ``info`` is run.json as it stands; ``trained`` is the trained network where this process trained
    it, else ``None``.
    """

    path: Path
    info: dict[str, Any]
    recipe: Recipe
    trained: nn.Module | None = None

    def __repr__(self) -> str:
        done = "" if self.result is None else f", test acc {self.result['test_acc']:.3f}"
        return f"<Run {self.path}: {self.recipe.name}, {self.info['state']}{done}>"

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

    def architecture(self, make: Callable[[], nn.Module] | None = None) -> nn.Module:
        """A network of the run's kind, on the CPU, with weights that are not the run's.

        Args:
            make: builds the network where it isn't one of the named ones. Its file is never run
                because a run folder names it.

        Raises:
            NetworkError: the network isn't a named one and ``make`` is missing.
        """
        name = self.recipe.network
        with kept():
            if make is not None:
                return make()
            if name in networks.NETWORKS:
                return networks.build(name, self.image_shape[0], len(self.classes))
        if self.trained is not None:
            return copy.deepcopy(self.trained).cpu()
        way = f" (it was {name})" if networks.is_own(name) else ""
        raise NetworkError(
            f"the run's network {name!r} isn't one of the named ones, and no code is run "
            f"because a run folder names it. Name it yourself: --network FILE.py:NAME{way}."
        )

    def network(self, make: Callable[[], nn.Module] | None = None) -> nn.Module:
        """The network with the run's weights, in evaluation mode, on the CPU; a new one each time.

        Args:
            make: as for :meth:`architecture`.

        Raises:
            NetworkError: the network can't be built, or the weights aren't there or don't fit.
        """
        network = self.architecture(make)
        path = self.path / WEIGHTS
        if not path.is_file():
            raise NetworkError(f"{path} isn't there: the run ended before its first epoch did.")
        try:
            load_model(network, path)
        except (SafetensorError, RuntimeError, OSError) as error:
            raise NetworkError(f"the weights in {path} don't fit the network: {error}") from error
        return network.eval()


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
        _ = run.input_shape, run.classes, repr(run)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, FiveByFiveError):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise RunError(f"{file} can't be read as a run: {reason}.") from error
    return run
