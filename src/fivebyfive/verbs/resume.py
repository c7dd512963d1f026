"""``resume``: from a run that was cut short to the end it would have had."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from .. import datasets, networks, recipes, runs
from ..datasets.splits import Dataset
from ..engines.process_group import ProcessGroup, init_process_group
from ..lib.errors import DataError, DeviceError, NetworkError
from ..lib.files import sweep
from ..networks import Build
from ..recipes import ResumeSettings
from ..runs import Run, restoring
from ..runs.checkpointer import EVERY
from ..runs.folder import CHECKPOINTS, check_plain
from ..runs.lock import locked
from ..runs.record import Record
from ..training.control import Control
from ..training.devices import choose
from ..training.events import Listener
from ..training.session import prepare
from ..watching.choice import Mode
from . import resolve
from .resolve import Data
from .running import finish, fit_into_memory, seconds, watchers_for

if TYPE_CHECKING:
    from typing_extensions import Unpack


def resume(
    run: str | Path | Run,
    *,
    network: str | nn.Module | None = None,
    data: Data | None = None,
    device: str = "auto",
    engine: str = "auto",
    micro_batch: int | None = None,
    allow: Collection[str] = (),
    checkpoint_every: float = EVERY,
    tensorboard: bool = False,
    watch: Mode = "auto",
    listeners: Sequence[Listener] = (),
    control: Control | None = None,
    **settings: Unpack[ResumeSettings],
) -> Run:
    """Go on with a run that was killed, stopped or failed, and end as if it never had been.

    It goes on from the newest whole checkpoint, in the middle of an epoch if need be. Weights,
    optimizer and metrics come out bit for bit as without the break, if the conditions are the same
    (the build of PyTorch, the device, the engine, the number of threads); if not, a notice says so.
    A run that has finished is given back as it is.

    Args:
        run: the run folder, or an opened run.
        network: ``FILE.py:NAME`` or a module of the right kind, for runs of a network of your own;
            no code is run because a run folder names it.
        data: the folder of the run's data, or the loaded dataset, where it isn't found by its name.
        device: as for :func:`train`; ``auto`` takes the run's own.
        engine: as for :func:`train`; ``auto`` takes the run's own.
        micro_batch: as for :func:`train`; ``None`` takes what the run had come to.
        allow: what may differ from the run that was begun: ``"data"``, ``"recipe"``.
        checkpoint_every: as for :func:`train`.
        tensorboard: as for :func:`train`; goes on by itself where there are event files.
        watch: as for :func:`train`.
        listeners: as for :func:`train`.
        control: as for :func:`train`.
        settings: ``epochs``, ``lr`` or ``precision``, if the recipe is allowed to change.

    Raises:
        RunError: there is no run to resume, or another process trains it right now.
        DataError: the data isn't the run's.
        RecipeError: a setting isn't the run's, or can't be changed now.
        DivergedError: as from :func:`train`.
        Interrupted: as from :func:`train`.
    """
    processes, record = init_process_group(), None
    with contextlib.ExitStack() as held:
        with processes.reporting():
            restoring.check_allowed(allow)
            every, folder = seconds(checkpoint_every), resolve.run_folder(run)
            opened = _opened(folder, processes, held)
            build = _network(opened, network)
            recipe = restoring.changed_recipe(opened, settings, allow)
            if opened.info["state"] == "finished" and recipe == opened.recipe:
                return opened
            tensorboard = tensorboard or any(opened.path.glob("events.out.tfevents.*"))
            watchers = watchers_for(watch, listeners, tensorboard)
            device, engine = _place(opened, device, engine)
            session = prepare(
                recipe,
                network=build,
                data=data if isinstance(data, Dataset) else None,
                folder=_data_folder(opened, data),
                device=device,
                engine=engine,
                micro_batch=micro_batch,
                processes=processes,
            )
            fit_into_memory(session, micro_batch)
            if processes.is_main:
                start = restoring.restore(opened, session, allow, micro_batch is None)
                record = Record(opened.path, session, start, every, folder)
        return finish(session, record, watchers, control)


def _opened(folder: Path, processes: ProcessGroup, held: contextlib.ExitStack) -> Run:
    """The run, locked till ``held`` ends; the leader alone looks into the folder."""
    info = None
    if processes.is_main:
        runs.load(folder)
        check_plain(folder)
        held.enter_context(locked(folder))
        info = runs.load(folder).info
        sweep(folder)
        sweep(folder / CHECKPOINTS)
    info = processes.exchange(info)[0]
    return Run(folder.absolute(), folder, info, recipes.from_dict(info["recipe"]))


def _place(run: Run, device: str, engine: str) -> tuple[str, str]:
    """The run's own device and engine, where the user names no other and they are here."""
    if device == "auto":
        with contextlib.suppress(DeviceError):
            device = str(choose(run.info["device"]))
    if engine == "auto" and device == run.info["device"]:
        engine = run.info["engine"]
    return device, engine


def _network(run: Run, network: str | nn.Module | None) -> nn.Module | Build | None:
    """The network to train on where the user has to bring it; ``None`` for a named one.

    Raises:
        NetworkError: it isn't the run's, or is missing.
    """
    if isinstance(network, nn.Module):
        return network  # trained in place
    name, make = run.recipe.network, resolve.network_of(run, network)
    if make is not None:
        return lambda channels, classes: make()  # noqa: ARG005
    if name in networks.NETWORKS:
        return None
    raise NetworkError(
        f"the run's network {name!r} isn't one of the named ones, and no code is run because a run "
        f"folder names it. Name it yourself: fivebyfive train FILE.py:NAME --resume {run.shown}, "
        "or in Python resume(run, network=…)."
    )


def _data_folder(run: Run, data: Data | None) -> Path | None:
    """Where the user says that the run's data is; a path in run.json is never followed."""
    if isinstance(data, Dataset):
        return None
    if data is not None:
        return resolve.folder_of(run.recipe, data)[1]
    if run.recipe.dataset in datasets.names():
        return None
    raise DataError(
        f"the run's data, {run.recipe.dataset!r}, isn't a named dataset. Say where it is: "
        "--data PATH."
    )
