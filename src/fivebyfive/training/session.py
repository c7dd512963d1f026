"""Everything a training needs, found and checked before its first step."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .. import datasets, engines, networks
from ..datasets.pixels import Pixels
from ..datasets.splits import Dataset
from ..engines.interface import Engine, Job
from ..engines.process_group import SINGLE_PROCESS, ProcessGroup
from ..lib.errors import ShapeError
from ..networks import user as own
from ..recipes import Recipe
from .broadcast import Broadcast
from .check import check, shape_error
from .devices import title
from .events import Listener, Result, Started
from .loop import Checkpointer, Loop
from .processes import check_same, check_share, device_of
from .progress import Progress
from .signals import Stop
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
    folder: Path | None = None  # where the user said that the data is
    memory: str | None = None  # what it will take, in words
    processes: ProcessGroup = SINGLE_PROCESS

    @property
    def steps(self) -> int:
        """In each epoch."""
        return -(-len(self.data.train) // self.recipe.batch_size)

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
            steps=self.steps,
            parameters=sum(p.numel() for p in self.network.parameters()),
            memory=self.memory,
        )

    def run(
        self,
        started: Started,
        listeners: Sequence[Listener],
        checkpointer: Checkpointer,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> Result:
        """Train from ``progress`` on, or from the start, and close the listeners at the end.

        ``stop`` hears the signals where they are heard beyond the training, too.

        Raises:
            DivergedError: the loss is no longer a finite number.
            Interrupted: Ctrl-C, SIGTERM or SIGHUP came; where the training stood is kept.
        """
        hearing = Stop() if stop is None else contextlib.nullcontext(stop)
        with hearing as heard, Broadcast(listeners) as broadcast:
            begun = Progress() if progress is None else progress
            begun = Progress.from_dict(self.processes.exchange(begun.as_dict())[0])
            parts = (self.engine, self.recipe, self.data, self.device)
            return Loop(*parts, broadcast, checkpointer, heard, begun, self.processes).run(started)


def prepare(
    recipe: Recipe,
    *,
    network: nn.Module | Callable[[], nn.Module] | None = None,
    folder: str | Path | None = None,
    named: bool = True,
    epochs_named: bool = True,
    device: str = "auto",
    engine: str = "auto",
    micro_batch: int | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> Session:
    """Find the device, load the data, build and check the network, and start the engine.

    Args:
        recipe: what to train. Its dataset's name becomes the one of the data found.
        network: a network of the caller's, trained in place, or what makes one; else the recipe's
            is built.
        folder: where to look for the dataset's files first.
        named: whether the user asked for this dataset; only one that was not asked for is replaced
            by the sample where it can't be had.
        epochs_named: whether the user asked for this number of epochs. Where not, the sample, which
            has a tenth of the images, is trained on for ten times as many: as many steps.
        device: see :func:`fivebyfive.training.together.device_of`.
        engine: see :func:`fivebyfive.engines.make`.
        micro_batch: compute this many images at a time; else the whole batch, if it fits.
        processes: the process group to train with, all of which prepare the same.

    Raises:
        FiveByFiveError: any of it can't be; nothing has been written then.
    """
    place = device_of(device, processes)
    make = _maker(recipe, network)
    check_share(recipe, processes)
    with processes.in_turn():  # the first one downloads, the others find
        data = datasets.load(recipe.dataset, folder, named=named, limit=recipe.limit)
    if data.name == "sample" and recipe.limit is None and not epochs_named:
        data, recipe = _lengthened(data, recipe)
    recipe = recipe.but(dataset=data.name)
    images = Pixels(recipe.resize, recipe.mean, recipe.std)(data.train.images[:2])
    try:
        module = build_seeded(lambda: make(data), recipe.init, recipe.seed, images)
    except RuntimeError as error:  # a lazy layer that the images don't fit
        raise ShapeError(shape_error(recipe, images, error)) from error
    check(module, recipe, data, images)
    check_same(processes, recipe, data, module, place)
    job = Job(module, recipe, data.train, data.test, place, micro_batch, processes)
    chosen = engines.make(engine, job)
    where = None if folder is None else Path(folder)
    return Session(chosen.recipe, data, place, module, chosen, where, processes=processes)


def _maker(
    recipe: Recipe, network: nn.Module | Callable[[], nn.Module] | None
) -> Callable[[Dataset], nn.Module]:
    """What makes the network once the data is there. An unknown name is told before."""
    if network is not None:
        return lambda _: network if isinstance(network, nn.Module) else network()
    if networks.is_user_network(recipe.network):
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
