"""``train``: from what the user named to a finished run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from .. import config as configuration
from ..datasets.splits import Dataset
from ..engines.process_group import SINGLE_PROCESS, ProcessGroup, init_process_group
from ..lib.errors import RunError
from ..lib.files import expanded
from ..recipes import Recipe, Settings
from ..runs import Run
from ..runs.checkpointer import EVERY
from ..runs.folder import check_free, create_run_dir
from ..runs.record import Record
from ..training.control import Control
from ..training.events import Listener
from ..training.progress import Progress
from ..training.session import Session, prepare
from ..watching.choice import Mode
from . import resolve
from .resolve import Data, What
from .running import finish, fit_into_memory, seconds, watchers_for

if TYPE_CHECKING:
    from typing_extensions import Unpack


def train(
    what: What | None = None,
    *,
    data: Data | None = None,
    device: str = "auto",
    engine: str = "auto",
    micro_batch: int | None = None,
    run: str | Path | None = None,
    config: str | Path | None = None,
    checkpoint_every: float = EVERY,
    tensorboard: bool = False,
    watch: Mode = "auto",
    listeners: Sequence[Listener] = (),
    control: Control | None = None,
    **settings: Unpack[Settings],
) -> Run:
    """Train a network and leave a run folder.

    Args:
        what: a recipe's or a network's name, ``FILE.py:NAME``, a :class:`Recipe`, or any
            ``nn.Module`` (trained in place); without it what ``config`` names, or LeNet.
        data: ``fashion-mnist``, ``mnist``, ``sample``, a folder with four IDX files, a ``.npz``
            file, or a dataset that is loaded already (``fbf.datasets.load``).
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        engine: ``auto``, or the name of one: ``cpu``, ``cuda`` or ``eager``.
        micro_batch: compute this many images of a batch at a time, for little memory; the result
            is the whole batch's.
        run: the new folder; without it ``runs/<date-time>-<recipe>`` in the current one.
        config: a TOML file with settings; what is given here wins over it.
        checkpoint_every: seconds between checkpoints within an epoch; each epoch's end is one, too.
        tensorboard: also write event files for TensorBoard into the run folder.
        watch: how to show the progress; ``auto`` finds out where the program runs.
        listeners: more listeners for the training's events.
        control: stops, pauses or changes the training from another thread or a listener.
        settings: any setting of a recipe, such as ``epochs=3``; see ``recipes.SETTINGS``.

    Returns:
        The run, with the trained network in ``run.trained``. Where ``control`` stopped it,
        ``run.result`` is ``None``, and :func:`resume` continues it.

    Raises:
        FiveByFiveError: something asked for can't be; nothing has been written then.
        DivergedError: the loss became infinite or not a number; the run folder tells how far the
            training came.
        Interrupted: (a ``KeyboardInterrupt``) Ctrl-C or SIGTERM came; ``resume`` continues it.
    """
    processes, record = init_process_group(), None
    with contextlib.ExitStack() as held:
        with processes.reporting():
            given: dict[str, Any] = {k: v for k, v in settings.items() if v is not None}
            if config is not None:
                given = {**configuration.read(config), **given}
                named = given.pop(configuration.RECIPE, None)
                what = named if what is None else what
            path = _new_folder(run) if run is not None and processes.is_main else None
            every = seconds(checkpoint_every)
            watchers = watchers_for(watch, listeners, tensorboard)
            session = ready(
                what,
                data=data,
                device=device,
                engine=engine,
                micro_batch=micro_batch,
                processes=processes,
                **given,
            )
            fit_into_memory(session, micro_batch)
            if processes.is_main:
                folder = held.enter_context(create_run_dir(path, session.recipe.name))
                record = Record(folder, session, every=every)
                if isinstance(what, nn.Module):  # nothing else could make its first weights again
                    record.checkpointer.save_now(Progress())
        return finish(session, record, watchers, control)


def ready(
    what: What | None,
    *,
    data: Data | None = None,
    device: str = "auto",
    engine: str = "auto",
    micro_batch: int | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
    **settings: Any,
) -> Session:
    """Everything :func:`train` needs, found and checked, with nothing written yet."""
    data = settings.pop("dataset", None) if data is None else data
    recipe, folder = resolve.recipe(what), None
    if data is not None and not isinstance(data, Dataset):
        settings["dataset"], folder = resolve.folder_of(recipe, data)
    return prepare(
        recipe.but(**settings),
        network=what if isinstance(what, nn.Module) else None,
        data=data if isinstance(data, Dataset) else None,
        folder=folder,
        # Only the dataset that every beginner starts with has a stand-in, and only where
        # nobody asked for it by name.
        named=data is not None or recipe.dataset != "fashion-mnist",
        epochs_named=settings.get("epochs") is not None or isinstance(what, Recipe),
        device=device,
        engine=engine,
        micro_batch=micro_batch,
        processes=processes,
    )


def _new_folder(run: str | Path) -> Path:
    if not str(run):
        raise RunError("the run folder's name is empty; expected the name of a new folder.")
    path = expanded(run, RunError)
    check_free(path)  # told before the data is loaded, not after
    return path
