"""``test``: a run's network on the whole test split."""

from __future__ import annotations

import warnings
from pathlib import Path

from torch import nn

from .. import datasets
from ..datasets.pixels import Pixels
from ..datasets.splits import Dataset
from ..evaluation.evaluate import Evaluation, evaluate
from ..evaluation.mistakes import draw_confusion, draw_mistakes
from ..lib.errors import DataError
from ..networks.structure import digest
from ..runs import Run
from ..training.devices import choose
from . import resolve
from .resolve import Data

OTHER_NETWORK = (
    "the network isn't the one that the run trained: its layers or its code have changed since. "
    "The weights fit, so it is tested, but it computes something else with them."
)


def test(
    run: str | Path | Run,
    *,
    data: Data | None = None,
    network: str | nn.Module | None = None,
    device: str = "auto",
    pictures: bool = True,
) -> Evaluation:
    """Test a run's network on the whole test split, however few images it was trained on.

    Args:
        run: a run folder, or an opened run.
        data: another place for the run's data, or other data with the same classes: as for
            :func:`train`.
        network: ``FILE.py:NAME`` or a module of the right kind, for runs of a network of your own.
        device: as for :func:`train`.
        pictures: also draw ``confusion.png`` and ``mistakes.png`` into the run folder. Where that
            can't be done a warning says so.

    Raises:
        FiveByFiveError: the run, its data or its network isn't available.
    """
    opened = run if isinstance(run, Run) else resolve.load_run(run)
    place = choose(device)
    dataset = _data_of(opened, data)
    module = opened.network(resolve.network_of(opened, network))
    trained = opened.info.get("network", {}).get("structure")
    if trained not in (None, digest(module)):
        warnings.warn(OTHER_NETWORK, stacklevel=2)
    verdict = evaluate(
        module.to(place),
        dataset.test,
        Pixels(opened.recipe.resize, opened.recipe.mean, opened.recipe.std),
        opened.recipe.loss,
        dataset.classes,
        place,
    )
    if pictures:
        try:
            draw_confusion(verdict, opened.path / "confusion.png")
            draw_mistakes(verdict, dataset.test, opened.path / "mistakes.png")
        except OSError as error:
            warnings.warn(f"can't draw the pictures in {opened.path}: {error}", stacklevel=2)
    return verdict


def _data_of(run: Run, data: Data | None) -> Dataset:
    """The run's own data, or what the user names instead if it has the same kind of images."""
    if isinstance(data, Dataset):
        dataset = data
    elif data is not None:
        name, folder = resolve.folder_of(run.recipe, data)
        dataset = datasets.load(name, folder)
    elif run.recipe.dataset in datasets.names():
        dataset = datasets.load(run.recipe.dataset)
    else:
        raise DataError(
            f"this run's data, {run.recipe.dataset!r}, is a folder of your own. "
            f"Name it by --data PATH."
        )
    if dataset.classes != run.classes or dataset.test.shape != run.image_shape:
        raise DataError(
            f"{dataset.name} isn't the data of this run, which has {len(run.classes)} classes "
            f"and images of {run.image_shape}. Name the run's data by --data PATH."
        )
    return dataset
