"""Everything a training needs, found and checked before its first step."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
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
from ..networks import Build
from ..recipes import Recipe
from .broadcast import Broadcast
from .check import check, shape_error
from .control import Control
from .devices import title
from .events import Listener, Result, Started
from .loop import Checkpointer, Loop, NoCheckpointer
from .processes import check_same, check_share, device_of
from .progress import Progress
from .weights import build_seeded

#: The sample has a tenth of the images of the dataset it stands in for.
SAMPLE_EPOCHS = 10


@dataclass
class Session:
    """A training that is ready to go: made by :func:`prepare`, used once.

    ``folder`` is where the user said that the data is; ``memory`` tells in words what the training
    will take, once that is estimated.
    """

    recipe: Recipe
    data: Dataset
    device: torch.device
    network: nn.Module
    engine: Engine
    folder: Path | None = None
    memory: str | None = None
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
            kernels=str(self.engine.coverage),
        )

    def run(
        self,
        started: Started,
        listeners: Sequence[Listener] = (),
        checkpointer: Checkpointer | None = None,
        progress: Progress | None = None,
        control: Control | None = None,
    ) -> Result | None:
        """Train from ``progress`` on, or from the start, and close the listeners at the end.

        Returns:
            What it came to; ``None`` where ``control`` stopped it.

        Raises:
            DivergedError: the loss is no longer a finite number.
            Interrupted: a signal asked the control to stop; where the training stood is saved.
        """
        # Whatever the caller has switched off around it.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            contextlib.closing(self.engine),
            Broadcast(listeners) as broadcast,
        ):
            begun = Progress() if progress is None else progress
            begun = Progress.from_dict(self.processes.exchange(begun.as_dict())[0])
            return Loop(
                self.engine,
                self.recipe,
                self.data,
                self.device,
                broadcast,
                checkpointer or NoCheckpointer(),
                control or Control(),
                begun,
                self.processes,
            ).run(started)


@torch.inference_mode(False)
@torch.enable_grad()
def prepare(
    recipe: Recipe,
    *,
    network: nn.Module | Build | None = None,
    data: Dataset | None = None,
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
        network: a network of the caller's, trained in place, or what builds one; else the recipe's
            is built.
        data: the images, where they are loaded already.
        folder: where to look for the dataset's files first.
        named: whether the user asked for this dataset; only one that was not asked for is replaced
            by the sample where it isn't available.
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
    build = networks.builder(recipe.network) if network is None else network  # told before loading
    check_share(recipe, processes)
    if data is None:
        with processes.in_turn():  # the first one downloads, the others find
            data = datasets.load(recipe.dataset, folder, named=named, limit=recipe.limit)
    elif recipe.limit is not None:
        data = data.head(recipe.limit)
    channels, classes = data.train.shape[0], len(data.classes)
    if data.name == "sample" and recipe.limit is None and not epochs_named:
        data, recipe = _lengthened(data, recipe)
    recipe = recipe.but(dataset=data.name)
    images = Pixels(recipe.resize, recipe.mean, recipe.std)(data.train.images[:2])
    try:
        module = build_seeded(
            lambda: build if isinstance(build, nn.Module) else build(channels, classes),
            recipe.init,
            recipe.seed,
            images,
        )
    except RuntimeError as error:  # a lazy layer that the images don't fit
        raise ShapeError(shape_error(recipe, images, error)) from error
    source = check(module, recipe, data, images)
    check_same(processes, recipe, data, module, place)
    job = Job(module, recipe, data.train, data.test, place, micro_batch, processes, draws=source)
    chosen = engines.make(engine, job)
    where = None if folder is None else Path(folder)
    return Session(chosen.recipe, data, place, module, chosen, where, processes=processes)


def _lengthened(data: Dataset, recipe: Recipe) -> tuple[Dataset, Recipe]:
    longer = recipe.but(epochs=recipe.epochs * SAMPLE_EPOCHS)
    told = (
        f"It has a tenth of the images, so the recipe's {recipe.epochs} epochs become "
        f"{longer.epochs}: about as many steps. --epochs sets another number."
    )
    notice = f"{data.notice} {told}" if data.notice else told
    return dataclasses.replace(data, notice=notice), longer
