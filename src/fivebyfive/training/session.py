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
from ..errors import ShapeError
from ..networks import own
from ..recipes import Recipe
from .broadcast import Broadcast
from .check import check, misfit
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
    make = _maker(recipe, network)
    data = datasets.load(recipe.dataset, folder, named=named, limit=recipe.limit)
    if data.name == "sample" and recipe.limit is None and not epochs_named:
        data, recipe = _lengthened(data, recipe)
    recipe = recipe.but(dataset=data.name)
    images = Pixels(recipe.resize, recipe.mean, recipe.std)(data.train.images[:2])
    try:
        module = build_seeded(lambda: make(data), recipe.init, recipe.seed, images)
    except RuntimeError as error:  # a lazy layer that the images don't fit
        raise ShapeError(misfit(recipe, images, error)) from error
    check(module, recipe, data, images)
    chosen = engines.make(engine, module, recipe, data.train, data.test, place)
    return Session(recipe, data, place, module, chosen)


def _maker(recipe: Recipe, network: nn.Module | None) -> Callable[[Dataset], nn.Module]:
    """What makes the network once the data is there. An unknown name is told before."""
    if network is not None:
        return lambda _: network
    if networks.is_own(recipe.network):
        found = own.find(recipe.network)
        return lambda _: found.make()
    named = networks.get(recipe.network)
    return lambda data: named.build(data.train.shape[0], len(data.classes))


def _lengthened(data: Dataset, recipe: Recipe) -> tuple[Dataset, Recipe]:
    longer = recipe.but(epochs=recipe.epochs * SAMPLE_EPOCHS)
    told = (
        f"It has a tenth of the images, so the recipe's {recipe.epochs} epochs become "
        f"{longer.epochs}: about as many steps. --epochs sets another number."
    )
    notice = f"{data.notice} {told}" if data.notice else told
    return dataclasses.replace(data, notice=notice), longer
