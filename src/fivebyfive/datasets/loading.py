"""From a name or a folder to a :class:`~fivebyfive.datasets.splits.Dataset` ready to train on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..lib.errors import DataError, DataNotFoundError
from . import catalog, locate

if TYPE_CHECKING:
    from .arrays import Checked
    from .locate import Place
    from .search import Found
    from .splits import Dataset

DEFAULT = "fashion-mnist"


@dataclass(frozen=True)
class Listing:
    """A named dataset, and where it lies: ``folder`` is None when it would be downloaded."""

    name: str
    title: str
    licence: str
    folder: Path | None
    places: tuple[Place, ...]

    @property
    def where(self) -> str:
        """Where it is, in words."""
        return str(self.folder or "not on this machine; would be downloaded")


@dataclass(frozen=True)
class Report:
    """A dataset that was found, or fetched, and verified; ``shape`` is ``(C, H, W)``.

    ``checked`` holds each file that was proven right; ``notes`` tells of what was passed over or
    repaired.
    """

    name: str
    source: str
    folder: Path
    licence: str | None
    train: int
    test: int
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    digests: Mapping[str, str]
    checked: tuple[Checked, ...]
    notes: tuple[str, ...]


def load(
    name: str | Path = DEFAULT,
    folder: str | Path | None = None,
    *,
    named: bool = True,
    download: bool = True,
    limit: int | None = None,
) -> Dataset:
    """Load a dataset whole, its files verified.

    Args:
        name: one of :func:`names`, a folder with four IDX files, or a ``.npz`` file.
        folder: look here for the files and nowhere else; if they aren't those of a named dataset,
            the result bears the folder's name.
        named: whether the user asked for ``name``. If not, and it isn't available, a dataset with a
            stand-in (Fashion-MNIST has the sample) is replaced by it, and ``notice`` says so.
        download: whether to fetch what isn't on this machine; never where $FIVEBYFIVE_OFFLINE is
            set.
        limit: keep only the first ``limit`` training and the first ``limit`` test images.

    Raises:
        UnknownNameError: no such name.
        DataNotFoundError: it is nowhere; the message names every place and the ways out.
        DataError: a file is damaged, the files don't fit each other, or the limit is below 1.
    """
    name = str(name)
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}; expected a whole number of at least 1.")
    try:
        found, notice = _find(name, folder, download), None
    except DataNotFoundError:
        entry = catalog.CATALOG.get(name)
        if named or folder is not None or entry is None or entry.stand_in is None:
            raise
        found = _find(entry.stand_in, None, download)
        notice = _stand_in_notice(entry, found)
    return _dataset(found, notice, limit)


def obtain(
    name: str | Path = DEFAULT,
    folder: str | Path | None = None,
    *,
    download: bool = True,
    verify: bool = False,
) -> Report:
    """Locate a dataset, fetch it if need be, verify it, and say what it is; PyTorch isn't needed.

    With ``verify`` every copy of it on this machine is read in full, and what is wrong in the cache
    is downloaded again. The other arguments, and the errors, are those of :func:`load`.
    """
    found = _find(str(name), folder, download, verify)
    arrays = found.arrays
    return Report(
        name=found.name,
        source=found.source,
        folder=arrays.folder,
        licence=found.entry.licence if found.entry else None,
        train=len(arrays.train_labels),
        test=len(arrays.test_labels),
        shape=arrays.shape,
        classes=found.classes,
        digests=arrays.digests,
        checked=found.checked,
        notes=found.notes,
    )


def describe() -> list[Listing]:
    """Every named dataset and where it lies, without reading or fetching any."""
    return [_listing(entry) for entry in catalog.CATALOG.values()]


def status(name: str) -> list[Place]:
    """Every place where ``name`` is looked for, in order, and what is there.

    Raises:
        UnknownNameError: no such name.
    """
    return locate.places(catalog.get(name))


def _listing(entry: catalog.Entry) -> Listing:
    places = tuple(locate.places(entry))
    folder = next((place.folder for place in places if place.folder), None)
    return Listing(entry.name, entry.title, entry.licence, folder, places)


def _find(name: str, folder: str | Path | None, download: bool, verify: bool = False) -> Found:
    from . import search  # here, as it brings NumPy

    if folder is not None:
        return search.in_folder(Path(folder), catalog.CATALOG.get(name), verify=verify)
    if name not in catalog.CATALOG and _is_path(name):
        return search.in_folder(Path(name), verify=verify)
    offline = bool(os.environ.get("FIVEBYFIVE_OFFLINE"))
    wanted = catalog.get(name)
    return search.named(wanted, download=download and not offline, verify=verify)


def _is_path(name: str) -> bool:
    separators = [os.sep, os.altsep or os.sep]
    return any(s in name for s in separators) or name.startswith((".", "~")) or Path(name).exists()


def _dataset(found: Found, notice: str | None, limit: int | None) -> Dataset:
    import torch

    from .splits import Dataset, Split

    arrays = found.arrays
    train, test = (
        Split(torch.from_numpy(images), torch.from_numpy(labels).long())
        for images, labels in (
            (arrays.train_images, arrays.train_labels),
            (arrays.test_images, arrays.test_labels),
        )
    )
    return Dataset(
        name=found.name,
        train=train if limit is None else train.head(limit),
        test=test if limit is None else test.head(limit),
        classes=found.classes,
        source=found.source,
        digests=arrays.digests,
        notice="\n".join(filter(None, (notice, *found.notes))) or None,
    )


def _stand_in_notice(wanted: catalog.Entry, found: Found) -> str:
    arrays = found.arrays
    package = f", or on Debian and Ubuntu `sudo apt install {wanted.package}`"
    return (
        f"{wanted.name} isn't available here, so this is the {found.name} that ships with "
        f"fivebyfive: {len(arrays.train_labels):,} + {len(arrays.test_labels):,} images of it. "
        "Results will be worse, and can't be compared with published ones. For the full data: "
        f"`fivebyfive data {wanted.name}` (it says what went wrong)"
        f"{package if wanted.package else ''}."
    )
