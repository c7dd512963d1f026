"""A run folder, opened."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from .. import networks, recipes
from ..lib.errors import FiveByFiveError, NetworkError, RunError
from ..lib.files import read_json
from ..lib.private_draws import PrivateDraws
from ..recipes import Recipe
from . import tensors
from .folder import FORMAT, INFO, METRICS, WEIGHTS
from .log import read as read_metrics


@dataclass(frozen=True, repr=False)
class Run:
    """A run folder that was opened: :func:`load` makes one.

    ``path`` is absolute, so that it holds where a program changes its working directory; ``shown``
    is the path as the user gave it, for messages. ``info`` is run.json as it stands; ``trained`` is
    the trained network where this process trained it, else ``None``.
    """

    path: Path
    shown: Path
    info: dict[str, Any]
    recipe: Recipe
    trained: nn.Module | None = None

    def __repr__(self) -> str:
        done = "" if self.result is None else f", test acc {self.result['test_acc']:.3f}"
        return f"<Run {self.shown}: {self.recipe.name}, {self.info['state']}{done}>"

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
        with PrivateDraws(0):
            if make is not None:
                return make()
            if name in networks.NETWORKS:
                return networks.build(name, self.image_shape[0], len(self.classes))
        if self.trained is not None:
            return copy.deepcopy(self.trained).cpu()
        way = f" (it was {name})" if networks.is_user_network(name) else ""
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
        path = self.path / WEIGHTS
        if not path.is_file():
            missing = self.shown / WEIGHTS
            raise NetworkError(f"{missing} isn't there: the run hasn't finished an epoch.")
        network = self.architecture(make)
        tensors.read_into(path, network.state_dict())
        return network.eval()


def load(path: str | Path) -> Run:
    """Open a run folder.

    Raises:
        RunError: there is no run there, or its run.json can't be understood.
    """
    folder = Path(path)
    file = folder / INFO
    try:
        if not file.is_file():
            message = f"there is no run at {folder}: {INFO} is missing. Expected a run folder."
            raise RunError(message)
        info = read_json(file)
        if info["format"] != FORMAT:
            raise RunError(f"{file} has format {info['format']!r}; this version reads {FORMAT}.")
        run = Run(folder.absolute(), folder, info, recipes.from_dict(info["recipe"]))
        # Touched once here, so that what is missing is told here and not in the middle of a use.
        _ = run.input_shape, repr(run), dict(info["data"]["digests"])
        _ = list(info.get("resumed", []))
        if not all(isinstance(info[key], str) for key in ("state", "device", "engine")):
            raise ValueError("state, device and engine are names")
        _check_sizes(run)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        if isinstance(error, FiveByFiveError):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise RunError(f"{file} can't be read as a run: {reason}.") from error
    return run


def _check_sizes(run: Run) -> None:
    """Labels are bytes, and images small: more would make a network that no data was for.

    Raises:
        ValueError: a number that no dataset of ours can have.
    """
    if not 1 <= len(run.classes) <= 256 or not all(isinstance(c, str) for c in run.classes):
        raise ValueError(f"{len(run.classes)} classes; expected the names of 1 to 256")
    for number in (*run.image_shape, *run.input_shape):
        if type(number) is not int or not 1 <= number <= 1024:
            raise ValueError(f"images of {run.image_shape} as {run.input_shape}; expected C, H, W")
    if run.image_shape[0] > 64:
        raise ValueError(f"images of {run.image_shape[0]} channels; expected at most 64")
