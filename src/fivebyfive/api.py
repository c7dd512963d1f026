"""Training, as Python calls it; the shell's words come down to the same calls."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from . import config as configuration
from . import datasets, networks, recipes, runs, watching
from .engines.process_group import SINGLE_PROCESS, ProcessGroup, init_process_group
from .lib.errors import DataError, NetworkError, RecipeError, RunError, UnknownNameError
from .lib.files import expanded
from .memory.estimate import estimate_memory
from .recipes import Recipe, Settings
from .runs import Run
from .runs.checkpointer import EVERY
from .runs.finishing import finish
from .runs.folder import check_free, create_run_dir
from .runs.record import Record
from .training.events import Listener
from .training.progress import Progress
from .training.session import Session, prepare
from .watching.choice import Mode
from .watching.tensorboard import TensorBoard

if TYPE_CHECKING:
    from typing_extensions import Unpack

What = str | Recipe | nn.Module

#: What a network without a recipe of its own is trained with.
USER_NETWORK_SETTINGS: dict[str, Any] = {"init": "default", "optimizer": "adam", "lr": 0.001}


def train(
    what: What | None = None,
    *,
    data: str | Path | None = None,
    device: str = "auto",
    engine: str = "auto",
    micro_batch: int | None = None,
    run: str | Path | None = None,
    config: str | Path | None = None,
    checkpoint_every: float = EVERY,
    tensorboard: bool = False,
    watch: Mode = "auto",
    listeners: Sequence[Listener] = (),
    **settings: Unpack[Settings],
) -> Run:
    """Train a network and leave a run folder.

    Args:
        what: a recipe's or a network's name, ``FILE.py:NAME``, a :class:`Recipe`, or any
            ``nn.Module`` (trained in place); without it what ``config`` names, or LeNet.
        data: ``fashion-mnist``, ``mnist``, ``sample``, or a folder with the four IDX files.
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
        settings: any setting of a recipe, such as ``epochs=3``; see ``recipes.SETTINGS``.

    Returns:
        The finished run, with the trained network in ``run.trained``.

    Raises:
        FiveByFiveError: something asked for can't be; nothing has been written then.
        DivergedError: the loss became infinite or not a number; the run folder tells how far the
            training came.
        Interrupted: (a ``KeyboardInterrupt``) Ctrl-C or SIGTERM came; ``resume`` goes on.
    """
    processes, record = init_process_group(), None
    with contextlib.ExitStack() as held:
        with processes.reporting():
            given: dict[str, Any] = {k: v for k, v in settings.items() if v is not None}
            if config is not None:
                given = {**configuration.read(config), **given}
                named = given.pop(configuration.RECIPE, None)
                what = named if what is None else what
            path = _path(run) if run is not None and processes.is_main else None
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
            session = with_memory_estimate(session, micro_batch)
            if processes.is_main:
                folder = held.enter_context(create_run_dir(path, session.recipe.name))
                record = Record(folder, session, every=every)
                if isinstance(what, nn.Module):  # nothing else could make its first weights again
                    record.checkpointer.save_now(Progress())
        return finish(session, record, watchers)


def ready(
    what: What | None,
    *,
    data: str | Path | None = None,
    device: str = "auto",
    engine: str = "auto",
    micro_batch: int | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
    **settings: Any,
) -> Session:
    """Everything :func:`train` needs, found and checked, with nothing written yet."""
    data = settings.pop("dataset", None) if data is None else data
    recipe = resolve(what)
    folder = None
    if data is not None:
        settings["dataset"], folder = find_dataset(recipe, data)
    return prepare(
        recipe.but(**settings),
        network=what if isinstance(what, nn.Module) else None,
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


def with_memory_estimate(session: Session, micro_batch: int | None) -> Session:
    """With words for the memory it will take.

    Where that isn't there, batches are computed in parts from the start, unless the user said how.
    """
    try:
        estimate = estimate_memory(session, micro_batch)
    except NetworkError:  # it can't be followed without running it
        return session
    if micro_batch is None and session.processes.size == 1:
        session.engine.micro_batch = estimate.micro_batch or 1
        session.engine.test_batch = estimate.test_batch or 1
    return dataclasses.replace(session, memory=str(estimate))


def resolve(what: What | None) -> Recipe:
    """The recipe that ``what`` stands for.

    Raises:
        UnknownNameError: neither a recipe nor a network, nor of the form ``FILE.py:NAME``.
        RecipeError: nothing that can be trained.
    """
    what = "lenet" if what is None else what
    if isinstance(what, Recipe):
        return what
    if isinstance(what, nn.Module):
        kind = type(what).__name__
        return Recipe(
            name=_slug(kind), network=kind, source="a network of your own", **USER_NETWORK_SETTINGS
        )
    if not isinstance(what, str):
        kind = f"the class {what.__name__}" if isinstance(what, type) else type(what).__name__
        raise RecipeError(f"can't train {kind}; expected a name, a Recipe, or an nn.Module.")
    if networks.is_user_network(what):
        name = _slug(what.rpartition(":")[2])
        return Recipe(
            name=name, network=what, source="a network of your own", **USER_NETWORK_SETTINGS
        )
    if what in networks.NETWORKS:
        what = networks.NETWORKS[what].recipe
    if what not in recipes.RECIPES:
        hint = "A network of your own goes by FILE.py:NAME."
        known = [*recipes.RECIPES, *networks.NETWORKS]
        raise UnknownNameError("recipe or network", what, known, hint)
    return recipes.RECIPES[what]


def load_run(path: str | Path) -> Run:
    """Open a run folder: ``run.recipe``, ``run.result``, ``run.metrics()``, ``run.network()``.

    Raises:
        RunError: there is no run there, or it can't be understood.
    """
    return runs.load(run_folder(path))


def run_folder(run: str | Path | Run) -> Path:
    """Where a run is that was given by its folder, or opened.

    Raises:
        RunError: it is neither.
    """
    if isinstance(run, Run):
        return run.path
    if not isinstance(run, str | Path):
        kind = type(run).__name__
        raise RunError(f"the run is given as {kind}; expected its folder's path, or a Run.")
    return expanded(run, RunError)


def _path(run: str | Path) -> Path:
    if not str(run):
        raise RunError("the run folder's name is empty; expected the name of a new folder.")
    path = expanded(run, RunError)
    check_free(path)  # told before the data is loaded, not after
    return path


def seconds(every: float) -> float:
    """The time between checkpoints, if it can be one.

    Raises:
        RecipeError: it is below 0, or no number.
    """
    if not every >= 0:
        raise RecipeError(f"checkpoint_every is {every}; expected seconds, 0 or more.")
    return float(every)


def watchers_for(mode: Mode, listeners: Sequence[Listener], tensorboard: bool) -> list[Listener]:
    """All who listen to a training beside the run folder itself.

    Raises:
        RecipeError: one of the user's listeners can't listen.
    """
    for each in listeners:
        if not all(callable(getattr(each, name, None)) for name in ("on", "close")):
            kind = type(each).__name__
            raise RecipeError(f"a listener is {kind}; expected objects with on(event) and close().")
    return [watching.choose(mode), *listeners, *([TensorBoard()] if tensorboard else [])]


def find_dataset(recipe: Recipe, data: str | Path) -> tuple[str, Path | None]:
    """The dataset's name and the folder to look in first, from what the user gave for it."""
    if not isinstance(data, str | Path):
        kind = type(data).__name__
        raise RecipeError(f"data is a {kind}; expected a dataset's name or a folder's path.")
    if str(data) in datasets.names():
        return str(data), None
    folder = expanded(data, DataError)
    if not folder.is_dir():
        hint = f"Or a folder with the four IDX files; there is none at {folder}."
        raise UnknownNameError("dataset", str(data), datasets.names(), hint)
    return recipe.dataset, folder


def _slug(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-") or "network"
