"""Tensors in files: safetensors written from memory, and read only into tensors that expect them.

A file is compared with what it should hold, name by name and size by size, before any of it is
taken in; so a file from a stranger costs no more memory than the network it claims to be of.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ..errors import NetworkError

#: Room for names and shapes beside the numbers, in bytes.
_HEADER = 1 << 20


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, laid out plainly, that no later step changes."""
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file's content."""
    return save(dict(tensors), metadata={"format": "pt"})


def read_into(path: Path, targets: Mapping[str, Tensor]) -> None:
    """Copy a safetensors file's tensors into ``targets``, which keep dtype, device and layout.

    Names that share one tensor (tied weights) may be there under any one of them.

    Raises:
        NetworkError: the file isn't there, is damaged, or doesn't hold just these.
    """
    bytes_wanted = sum(t.nbytes for t in targets.values())
    try:
        size = path.stat().st_size
        if not path.is_file() or size > bytes_wanted + _HEADER:
            raise NetworkError(
                f"the weights in {path} don't fit the network: {size:,} bytes; "
                f"expected about {bytes_wanted:,}."
            )
        with safe_open(path, framework="pt") as file, torch.no_grad():
            _compare(file, targets, path)
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                targets[name].copy_(file.get_tensor(name))
    except FileNotFoundError:
        raise NetworkError(f"{path} isn't there.") from None
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise NetworkError(f"the weights in {path} don't fit the network: {error}") from error


def read(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file whose size is known to be fitting.

    Raises:
        NetworkError: the file can't be read.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise NetworkError(f"{path} can't be read: {error}") from error


def _compare(file: safe_open, targets: Mapping[str, Tensor], path: Path) -> None:
    names = set(file.keys())
    held = {targets[name].data_ptr() for name in names & targets.keys()}
    missing = [n for n, t in targets.items() if n not in names and t.data_ptr() not in held]
    problems = [f"{name} is missing" for name in missing]
    problems += [f"{name} is unknown" for name in sorted(names - targets.keys())]
    for name in sorted(names & targets.keys()):
        shape, wanted = list(file.get_slice(name).get_shape()), list(targets[name].shape)
        if shape != wanted:
            problems.append(f"{name} is {shape}, expected {wanted}")
    if problems:
        more = f", and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise NetworkError(
            f"the weights in {path} don't fit the network: {'; '.join(problems[:5])}{more}."
        )
