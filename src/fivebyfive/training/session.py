"""Everything a training needs, found and checked before its first step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .. import datasets, engines, networks
from ..datasets.pixels import Pixels
from ..datasets.splits import Dataset
from ..engines.work import Engine
from ..errors import NetworkError, ShapeError
from ..networks import own
from ..randomness import kept
from ..recipes import Recipe
from .broadcast import Broadcast
from .devices import choose, title
from .events import Listener, Result, Started
from .loop import Loop
from .weights import build_seeded

#: The sample has a tenth of the images of the dataset it stands in for.
SAMPLE_EPOCHS = 10


@dataclass(frozen=True)
class Session:
    """A training that is ready to go: made by :func:`prepare`, used once."""

    recipe: Recipe
    data: Dataset
    device: torch.device
    network: nn.Module
    engine: Engine

    def started(self, run: Path | None) -> Started:
        """The event that opens the training."""
        return Started(
            recipe=self.recipe,
            run=run,
            device=str(self.device),
            device_title=title(self.device),
            engine=self.engine.name,
            data=self.data.name,
            data_source=self.data.source,
            notice=self.data.notice,
            train_images=len(self.data.train),
            test_images=len(self.data.test),
            classes=self.data.classes,
            steps=-(-len(self.data.train) // self.recipe.batch_size),
            parameters=sum(p.numel() for p in self.network.parameters()),
        )

    def run(
        self, listeners: Sequence[Listener], run: Path | None, after_epoch: Callable[[], None]
    ) -> Result:
        """Train, and close the listeners at the end, well or not; see ``Loop.run``."""
        with Broadcast(listeners) as broadcast:
            loop = Loop(self.engine, self.recipe, self.data, self.device, broadcast)
            return loop.run(self.started(run), after_epoch)


def prepare(
    recipe: Recipe,
    *,
    network: nn.Module | None = None,
    folder: str | Path | None = None,
    named: bool = True,
    epochs_named: bool = True,
    device: str = "auto",
    engine: str = "auto",
) -> Session:
    """Find the device, load the data, build and check the network, and start the engine.

    Args:
        recipe: what to train. Its dataset's name becomes the one of the data found.
        network: a network of the caller's, trained in place; else the recipe's is built.
        folder: where to look for the dataset's files first.
        named: whether the user asked for this dataset; only one that was not asked for is replaced
            by the sample where it can't be had.
        epochs_named: whether the user asked for this number of epochs. Where not, the sample, which
            has a tenth of the images, is trained on for ten times as many: as many steps.
        device: see :func:`fivebyfive.training.devices.choose`.
        engine: see :func:`fivebyfive.engines.make`.

    Raises:
        FiveByFiveError: any of it can't be; nothing has been written then.
    """
    place = choose(device)
    module = _given(recipe, network)
    data = datasets.load(recipe.dataset, folder, named=named, limit=recipe.limit)
    if data.name == "sample" and recipe.limit is None and not epochs_named:
        data, recipe = _lengthened(data, recipe)
    recipe = recipe.but(dataset=data.name)
    if module is None:
        channels, classes = data.train.shape[0], len(data.classes)
        module = build_seeded(
            lambda: networks.build(recipe.network, channels, classes), recipe.init, recipe.seed
        )
    _check(module, recipe, data)
    return Session(
        recipe,
        data,
        place,
        module,
        engines.make(engine, module, recipe, data.train, data.test, place),
    )


def _given(recipe: Recipe, network: nn.Module | None) -> nn.Module | None:
    """The network that doesn't depend on the data: the caller's, or the one of the user's file."""
    if network is not None:
        return build_seeded(lambda: network, recipe.init, recipe.seed)
    if own.is_own(recipe.network):
        return build_seeded(lambda: own.load(recipe.network), recipe.init, recipe.seed)
    networks.get(recipe.network)  # an unknown name is told of before any data is loaded
    return None


def _lengthened(data: Dataset, recipe: Recipe) -> tuple[Dataset, Recipe]:
    longer = recipe.but(epochs=recipe.epochs * SAMPLE_EPOCHS)
    told = (
        f"It has a tenth of the images, so the recipe's {recipe.epochs} epochs become "
        f"{longer.epochs}: about as many steps. --epochs sets another number."
    )
    notice = f"{data.notice} {told}" if data.notice else told
    return dataclasses.replace(data, notice=notice), longer


def _check(network: nn.Module, recipe: Recipe, data: Dataset) -> None:
    """Let one image through, so that a wrong shape is told before anything is written.

    Raises:
        NetworkError: the network has nothing to train, or isn't float32.
        ShapeError: it doesn't take the images, or doesn't give a score a class.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        raise NetworkError(f"{recipe.network} has no trainable parameters.")
    if any(p.dtype != torch.float32 for p in parameters):
        kinds = ", ".join(sorted({str(p.dtype) for p in parameters}))
        raise NetworkError(f"{recipe.network} has parameters of {kinds}; expected torch.float32.")
    place = parameters[0].device
    pixels = Pixels(recipe.resize, recipe.mean, recipe.std)
    image = pixels(data.train.images[:1]).to(place)
    was_training = network.training
    try:
        with torch.no_grad(), kept(place):
            scores = network.eval()(image)
    except RuntimeError as error:
        raise ShapeError(_misfit(recipe, tuple(image.shape[1:]), error)) from error
    finally:
        network.train(was_training)
    if not isinstance(scores, torch.Tensor) or scores.shape != (1, len(data.classes)):
        got = list(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ShapeError(
            f"{recipe.network} gives {got} for one image; expected scores of shape "
            f"{[1, len(data.classes)]}, one for each class of {data.name}."
        )


def _misfit(recipe: Recipe, shape: tuple[int, ...], error: RuntimeError) -> str:
    came = "×".join(map(str, shape))
    message = f"{recipe.network} doesn't take the images of {came} that it was given ({error})."
    known = networks.NETWORKS.get(recipe.network)
    if known is None:
        return f"{message} --resize N makes them N×N."
    side = known.input[1]
    return f"{message} It expects {shape[0]}×{side}×{side}: --resize {side} makes them so."
