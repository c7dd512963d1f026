"""Restoring a run from its newest whole checkpoint, so that the training can continue."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

from .. import recipes
from ..lib.errors import (
    CheckpointError,
    DataError,
    FiveByFiveError,
    RecipeError,
    RunError,
    UnknownNameError,
)
from ..lib.files import write_bytes
from ..recipes import Recipe
from ..training.progress import Progress
from ..training.session import Session
from . import checkpoints
from . import log as metrics
from .checkpoints import Checkpoint
from .conditions import conditions, differences
from .folder import CHECKPOINTS, METRICS, WEIGHTS, writing
from .record import Start
from .run import Run

#: What may differ from the run that is resumed, if it is asked for by name.
Change = Literal["data", "recipe"]
#: The settings that mean something in the middle of a run.
CHANGEABLE = recipes.ResumeSettings.__optional_keys__


def check_allowed(allow: Collection[str]) -> None:
    """Refuse a change nobody knows.

    Raises:
        UnknownNameError: with the known ones.
    """
    for name in allow:
        if name not in get_args(Change):
            raise UnknownNameError("change", name, get_args(Change))


def changed_recipe(run: Run, settings: Mapping[str, Any], allow: Collection[str]) -> Recipe:
    """The recipe to go on with: the run's, with ``settings`` where that is allowed.

    Raises:
        RecipeError: a setting differs and that wasn't asked for by name, or can't be changed now.
    """
    recipe = run.recipe.but(**settings)
    told = _told(run.recipe, recipe)
    fixed = [key for key in told if key not in CHANGEABLE]
    if fixed:
        raise RecipeError(
            f"{'; '.join(told[key] for key in fixed)}: that can't change in the middle of a run. "
            "Start a new one, or leave it out."
        )
    if told and "recipe" not in allow:
        raise RecipeError(
            f"the recipe would change: {'; '.join(told.values())}. To resume with it all the same "
            "add --allow-change recipe."
        )
    return recipe


def restore(
    run: Run, session: Session, allow: Collection[str], keep_micro_batch: bool = True
) -> Start:
    """Put weights, optimizer and metrics back to the newest whole checkpoint.

    Without any checkpoint the training starts anew in the same folder, which comes to the same end.
    The caller holds the run's lock. As many images are tested at a time as when the checkpoint was
    made, and with ``keep_micro_batch`` as many are computed in training.

    Raises:
        DataError: the data isn't the run's and that wasn't asked for by name.
        RecipeError: the recipe in run.json isn't the checkpoint's, likewise, or leaves nothing to
            train.
        RunError: something can't be read or written, or starting anew would undo what there is.
    """
    weights = session.network.state_dict()
    largest = (1 << 20) + 4 * sum(t.nbytes for t in weights.values())
    found, damaged = checkpoints.newest(run.path, largest)
    notes = [f"A damaged checkpoint was passed over: {damaged[0]}"] if damaged else []
    begun = run.info["data"]["digests"] if found is None else found.state.get("data")
    notes += _check_data(begun, session, allow)
    if found is None:
        _check_nothing_lost(run, damaged)
        _rewind(run, 0, "")
        return Start(info=run.info, notes=tuple(notes))
    try:
        engine, then = session.engine, found.state["conditions"]
        engine.test_batch = max(1, int(then.get("test_batch", engine.test_batch)))
        if keep_micro_batch:
            engine.micro_batch = max(1, int(then["micro_batch"]))
        start = _restore(run, session, found, allow)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, FiveByFiveError):
            raise
        raise CheckpointError(f"{found.path} can't be understood: {error!r}.") from error
    return dataclasses.replace(start, notes=(*notes, *start.notes))


def _restore(run: Run, session: Session, found: Checkpoint, allow: Collection[str]) -> Start:
    state = found.state
    progress = Progress.from_dict(state["progress"])
    if progress.step > session.steps:
        raise CheckpointError(
            f"{found.path} is at step {progress.step} of an epoch of {session.steps} steps."
        )
    saved = recipes.from_dict(state["recipe"])
    changes = _told(saved, session.recipe)
    if changes and "recipe" not in allow:
        raise RecipeError(
            f"run.json and {found.path} disagree: {'; '.join(changes.values())}. To resume with "
            "what run.json says add --allow-change recipe."
        )
    if changes and progress.epoch > session.recipe.epochs:
        raise RecipeError(
            f"the run is at {progress.place}, so there is nothing left to train with the change: "
            f"{'; '.join(changes.values())}. Expected --epochs {progress.epoch} or more."
        )
    if "lr" in changes:  # asked for now, so it wins over what was asked for during the training
        progress = dataclasses.replace(progress, lr=None)
    other = [*changes.values(), *differences(state["conditions"], conditions(session))]
    notes = [] if not other else [_not_the_same(other)]
    found.restore(session.network.state_dict())
    session.engine.load_optimizer_state(found.optimizer())
    if progress.step == 0 and progress.done is not None:
        _put_weights(run, found)
    length, digest = int(state["metrics"]["bytes"]), str(state["metrics"]["sha256"])
    if not _rewind(run, length, digest):
        notes.append("metrics.jsonl isn't as it was: rows before this point may be missing.")
    best = state["best"]
    if best is not None:
        best = (int(best[0]), float(best[1]))
    rows = tuple(run.metrics())
    return Start(progress, run.info, rows, found.number, best, tuple(notes))


def _check_nothing_lost(run: Run, damaged: list[str]) -> None:
    """Refuse to start anew where there are checkpoints that can't be read, or a result.

    Raises:
        RunError: what is there, and what to do.
    """
    if damaged:
        raise CheckpointError(
            f"none of the checkpoints of {run.shown} is whole. The newest: {damaged[0]} To start "
            f"the run anew all the same, remove {run.shown / CHECKPOINTS}."
        )
    if run.info["state"] == "finished":
        raise RunError(
            f"{run.shown} has finished and has no checkpoint to go on from; starting anew would "
            "overwrite its result. Start a new run."
        )


def _put_weights(run: Run, found: Checkpoint) -> None:
    """A kill may have come after an epoch's checkpoint and before its weights were put beside."""
    content = (found.path / checkpoints.WEIGHTS).read_bytes()
    with writing(run.path / WEIGHTS, len(content)):
        write_bytes(run.path / WEIGHTS, content)


def _check_data(
    begun: Mapping[str, str] | None, session: Session, allow: Collection[str]
) -> list[str]:
    now = dict(session.data.digests)
    if begun == now:
        return []
    if "data" not in allow:
        names = [name for name, digest in now.items() if (begun or {}).get(name) != digest]
        raise DataError(
            f"the data isn't what the run was begun with: other content in "
            f"{', '.join(names) or 'its files'} from {session.data.source}. Give the run's own "
            "data by --data PATH, or resume with this by --allow-change data."
        )
    return [_not_the_same(["the data changed"])]


def _rewind(run: Run, length: int, digest: str) -> bool:
    with writing(run.path / METRICS, length):
        return metrics.rewind(run.path / METRICS, length, digest)


def _told(before: Recipe, after: Recipe) -> dict[str, str]:
    """The settings that differ, each with words for it."""
    return {
        key: f"{key} is {getattr(before, key)} there, {getattr(after, key)} here"
        for key in recipes.SETTINGS
        if getattr(before, key) != getattr(after, key)
    }


def _not_the_same(reasons: list[str]) -> str:
    return "The end won't be bit for bit that of a run without a break: " + "; ".join(reasons) + "."
