"""Checkpoints: folders in a run folder from which the training can go on to the same end.

    checkpoints/000007/
      weights.safetensors     the network's parameters and buffers
      optimizer.safetensors   what the optimizer keeps, as <parameter>/<quantity>
      state.json              position, sums, recipe, digests of the data, length of the metrics
      manifest.json           the SHA-256 and size of the three others, and the folder's number

A checkpoint gets its name by a rename once all of it is on the disk. Numbers rise; the newest two
and the best by test accuracy are kept. A checkpoint is read only when every byte is proven.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..lib import files
from ..lib.errors import CheckpointError
from ..lib.files import Content
from . import tensors
from .folder import CHECKPOINTS

FORMAT = 1
WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"
MANIFEST = "manifest.json"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A proven checkpoint; ``state`` is its state.json."""

    path: Path
    number: int
    state: dict[str, Any]

    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the saved weights into those of a network, its ``state_dict``.

        Raises:
            NetworkError: they are of another network.
        """
        tensors.read_into(self.path / WEIGHTS, weights)

    def optimizer(self) -> dict[str, Tensor]:
        """The optimizer's state, as an engine's ``load_optimizer_state`` takes it.

        Raises:
            NetworkError: it can't be read.
        """
        return tensors.read(self.path / OPTIMIZER)


def numbers(run: Path) -> list[int]:
    """The numbers of a run's checkpoints, whole or not, oldest first."""
    folder = run / CHECKPOINTS
    if not folder.is_dir():
        return []
    real = (path.name for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return sorted(int(name) for name in real if re.fullmatch(r"[0-9]{6}|[1-9][0-9]{6,15}", name))


def place(run: Path, number: int) -> Path:
    """The folder of a checkpoint."""
    return run / CHECKPOINTS / f"{number:06d}"


def write(
    run: Path, number: int, weights: Content, optimizer: Content, state: Mapping[str, Any]
) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        OSError: it can't be written, or the disk is full.
    """
    contents: dict[str, Content]
    contents = {WEIGHTS: weights, OPTIMIZER: optimizer, STATE: files.json_bytes(state)}
    entries = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    contents[MANIFEST] = files.json_bytes({"format": FORMAT, "number": number, "files": entries})
    files.make_folder(run / CHECKPOINTS)
    with files.new_folder(place(run, number)) as folder:
        for name, content in contents.items():
            (folder / name).write_bytes(content)


def read(run: Path, number: int, largest: int) -> Checkpoint:
    """Prove a checkpoint and open it. No file of it can have more than ``largest`` bytes.

    Raises:
        CheckpointError: it isn't whole, naming what is wrong.
    """
    folder = place(run, number)
    try:
        manifest = files.read_json(folder / MANIFEST)
        if manifest["format"] != FORMAT or manifest["number"] != number:
            raise CheckpointError(
                f"{folder / MANIFEST} is of format {manifest['format']!r} and number "
                f"{manifest['number']!r}; expected {FORMAT} and {number}."
            )
        for name in (WEIGHTS, OPTIMIZER, STATE):
            _prove(folder / name, manifest["files"][name], largest)
        state = files.read_json(folder / STATE)
        if not isinstance(state, dict):
            raise CheckpointError(f"{folder / STATE} holds no JSON object.")
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"{error.filename} is missing.") from error
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{folder} can't be read: {reason}.") from error
    return Checkpoint(folder, number, state)


def newest(run: Path, largest: int) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, and what is wrong with the ones after it; see :func:`read`."""
    damaged: list[str] = []
    for number in reversed(numbers(run)):
        try:
            return read(run, number, largest), damaged
        except CheckpointError as error:
            damaged.append(str(error))
    return None, damaged


def prune(run: Path, keep: Collection[int]) -> None:
    """Remove all but those."""
    for number in numbers(run):
        if number not in keep:
            files.remove_folder(place(run, number))


def _prove(path: Path, entry: Mapping[str, Any], largest: int) -> None:
    if path.is_symlink() or not path.is_file():
        state = "is missing" if not path.exists() else "is not a plain file"
        raise CheckpointError(f"{path} {state}.")
    size = path.stat().st_size
    if size != entry["bytes"] or size > largest:
        raise CheckpointError(f"{path} has {size:,} bytes; expected {int(entry['bytes']):,}.")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != entry["sha256"]:
        raise CheckpointError(f"{path} is damaged: its SHA-256 isn't the manifest's.")
