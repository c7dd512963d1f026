"""Finding a dataset, proving that it is the right one, and fetching it when it is nowhere.

Which files are trusted: those of a named dataset only with the digests of the catalog. A wrong file
in a folder of the user's is an error, since the user would want to know; a wrong file in the cache
or in a system folder is passed over with a note, and one in the cache is replaced by the next
download, or at once where the user asks for everything to be verified.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from ..lib import files
from ..lib.errors import DataError, DataNotFoundError
from . import fetch, formats, locate
from .arrays import Arrays, Checked, read
from .catalog import CATALOG, SAMPLE, Entry
from .folder import NAMES, find
from .locate import Place


@dataclass(frozen=True)
class Found:
    """A dataset's contents with its provenance; ``entry`` is None for a user's own data.

    ``notes`` tells of copies that were passed over because they are damaged, and of repairs;
    ``checked`` holds the files whose digests were checked and found right.
    """

    name: str
    classes: tuple[str, ...]
    arrays: Arrays
    source: str
    entry: Entry | None
    notes: tuple[str, ...] = ()
    checked: tuple[Checked, ...] = ()


class OtherDataError(DataError):
    """Four files that fit each other but are not those of the dataset looked for."""


def in_folder(folder: Path, entry: Entry | None = None, *, verify: bool = False) -> Found:
    """The dataset in a folder, or a file, that the user gave: one of the catalog or the user's own.

    ``entry`` adds the sub-folders it may lie in. What the files are is told by their content. With
    ``verify`` each file is read in full, even where an unpacked copy is kept of it.

    Raises:
        DataNotFoundError: the folder doesn't hold the four files.
        DataError: they can't be read, don't fit each other, or some but not all of them are those
            of a named dataset (data of your own may share its labels, but not its images).
    """
    folder = files.expanded(folder, DataError)
    place = locate.look("given", folder, entry.folders if entry else ())
    if place.folder is not None:
        arrays = read(place.folder, fresh=verify)
    elif other := formats.find(folder):
        format_, path = other
        arrays = format_.read(path)
    else:
        raise DataNotFoundError(
            f"no dataset in {folder}: {place.note}. Expected {', '.join(NAMES)}, "
            f"each with or without .gz; or {formats.expected()}."
        )
    if entry is None or place.folder is None or place.direct:
        entry = next((known for known in CATALOG.values() if _has_images_of(arrays, known)), None)
    source = str(arrays.folder)
    if entry is not None:
        prove(arrays, entry)
        return _found(entry, arrays, source)
    labels = tuple(str(label) for label in range(arrays.classes))
    return Found(_own_name(arrays.folder), labels, arrays, source, None, checked=arrays.files)


def named(entry: Entry, *, download: bool = True, verify: bool = False) -> Found:
    """The dataset ``entry`` from wherever it lies, or else from its mirrors.

    With ``verify`` every copy on this machine is checked, not only the first, and each file in full
    whatever is noted of it; the copy in the cache, if there is one, is repaired.

    Raises:
        DataNotFoundError: it is nowhere; the message names every place, every mirror's failure and
            the ways out.
        DataError: a folder of the user's own holds a damaged copy of it.
    """
    files.sweep(locate.cache() / entry.name, locate.IDLE)
    copies, looked, damaged = _copies(entry, verify)
    if copies:
        repairs = _repairs(entry) if verify and download else []
        checked = tuple(file for copy in copies for file in copy.checked)
        return dataclasses.replace(copies[0], notes=(*damaged, *repairs), checked=checked)
    failures = ["not tried, as asked (by download=False or FIVEBYFIVE_OFFLINE)"]
    if not entry.mirrors:
        failures = ["there is no place to download it from"]
    elif download:
        try:
            return _fetched(entry, verify)
        except fetch.FetchError as error:
            failures = error.failures
    raise DataNotFoundError(_nowhere(entry, looked, failures))


def _copies(entry: Entry, verify: bool) -> tuple[list[Found], list[Place], list[str]]:
    """The right copies on this machine, or the first; the other places; what is damaged."""
    copies: list[Found] = []
    looked: list[Place] = []
    damaged: list[str] = []
    for place in locate.places(entry):
        if place.folder is None:
            looked.append(place)
            continue
        # A folder of the user's may hold another dataset, of any size.
        expected = None if place.kind == "environment" else entry
        try:
            arrays = read(place.folder, expected, fresh=verify)
            prove(arrays, entry)
        except DataError as error:
            if place.kind != "environment":
                damaged.append(f"Passed over a damaged copy: {error}")
            elif not (place.direct and isinstance(error, OtherDataError)):
                raise
            looked.append(dataclasses.replace(place, note=str(error)))
        else:
            copies.append(_found(entry, arrays, _words(place)))
            if not verify:
                break
    return copies, looked, damaged


def prove(arrays: Arrays, entry: Entry) -> None:
    """Check the digests of all four files against the catalog's.

    Raises:
        OtherDataError: neither file of images fits.
        DataError: some file doesn't fit; the message names the first such.
    """
    paths = {name: file.path for name, file in zip(NAMES, arrays.files, strict=True)}
    wrong = [file for file in entry.files if arrays.digests[file.name] != file.sha256]
    if not wrong:
        return
    first = wrong[0]
    kind = DataError if _has_images_of(arrays, entry) else OtherDataError
    raise kind(
        f"{paths[first.name]}: not the {first.name} of {entry.name}: its content "
        f"has SHA-256 {arrays.digests[first.name]}, expected {first.sha256}. Replace the file."
    )


def _has_images_of(arrays: Arrays, entry: Entry) -> bool:
    # Labels alone tell nothing: data made from a named dataset often keeps its labels.
    images = (entry.files[0], entry.files[2])
    return any(arrays.digests[file.name] == file.sha256 for file in images)


def _found(entry: Entry, arrays: Arrays, source: str) -> Found:
    return Found(entry.name, entry.classes, arrays, source, entry, checked=arrays.files)


def _fetched(entry: Entry, verify: bool) -> Found:
    target = locate.cache() / entry.name
    fetched = fetch.fetch(entry, target)
    arrays = read(target, entry)
    prove(arrays, entry)
    notes = tuple(map(_repaired, fetched)) if verify else ()
    return dataclasses.replace(_found(entry, arrays, f"downloaded to {target}"), notes=notes)


def _repairs(entry: Entry) -> list[str]:
    """Fetch what is missing or wrong of the copy in the cache, if there is one; in words."""
    target = locate.cache() / entry.name
    try:
        if not any(find(target, name) for name in NAMES):
            return []
        return [_repaired(path) for path in fetch.fetch(entry, target)]
    except (fetch.FetchError, OSError) as error:
        return [f"The copy in the cache couldn't be repaired. {error}"]


def _repaired(path: Path) -> str:
    return f"Downloaded, as it was missing or damaged: {path}"


def _own_name(folder: Path) -> str:
    """The folder's name, which must not pass for that of a dataset it isn't."""
    name = folder.resolve().stem if folder.is_file() else folder.resolve().name
    return f"{name} (own)" if name in CATALOG else name


def _words(place: Place) -> str:
    return f"the cache, {place.folder}" if place.kind == "cache" else str(place.folder)


def _nowhere(entry: Entry, looked: list[Place], failures: list[str]) -> str:
    return "\n".join(
        (
            f"{entry.name} isn't available. Looked at:",
            *(f"  {place}" for place in looked),
            "Downloading:",
            *(f"  {failure}" for failure in failures),
            "Ways out:",
            *(f"  - {way}" for way in _ways_out(entry)),
        )
    )


def _ways_out(entry: Entry) -> list[str]:
    if entry is SAMPLE:
        return ["install fivebyfive again: its sample is a part of it"]
    ways = [
        f"set FIVEBYFIVE_MIRROR to a mirror that you can reach and that has "
        f"{entry.name}/{entry.files[0].name}.gz and its three neighbours",
        "put the four files into a folder, and give it by --data FOLDER or FIVEBYFIVE_DATA",
    ]
    if entry.package:
        ways.append(f"on Debian or Ubuntu: sudo apt install {entry.package}")
    if entry.stand_in:
        ways.append(
            f"train on the small sample that ships with fivebyfive: --data {entry.stand_in}"
        )
    else:
        ways.append(
            f"for a first try, take the sample that ships with fivebyfive: --data {SAMPLE.name} "
            f"(of Fashion-MNIST; there is none of {entry.name})"
        )
    return ways
