"""Tensors in files: safetensors written from memory, and read only into tensors that expect them.

A file is compared with what it should hold, name by name and size by size, before any of it is
taken in; so a file from a stranger costs no more memory than the network it claims to be of.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..lib.errors import NetworkError

#: Room for names and shapes beside the numbers, in bytes.
_HEADER = 1 << 20

#: What a file calls the types of numbers, in the order in which the library puts them: the widest
#: first, so that all lie where such numbers may.
_TYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def packed(tensors: Mapping[str, Tensor]) -> memoryview:
    """A safetensors file's content, which no later step changes.

    Byte for byte what the library writes; but that makes two more copies on the way, and this one
    lies in memory of its own, which the system has back at once. For AlexNet it is half a gigabyte
    less.

    Raises:
        NetworkError: a tensor is of a type that such files don't hold.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _TYPES:
            raise NetworkError(f"{name} is of type {tensor.dtype}, which safetensors can't hold.")
    types, names = list(_TYPES), _once(tensors)
    tensors = {name: tensor for name, tensor in tensors.items() if name not in names}
    order = sorted(tensors.items(), key=lambda item: (types.index(item[1].dtype), item[0]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **names}}
    end = 0
    for name, tensor in order:
        place = [end, end := end + tensor.nbytes]
        kind, shape = _TYPES[tensor.dtype], list(tensor.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": place}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    at = 8 + len(text)
    content = mmap.mmap(-1, at + end)
    content[:at] = len(text).to_bytes(8, "little") + text
    for _, tensor in order:
        if tensor.numel():  # a buffer of nothing is refused
            room = torch.frombuffer(content, dtype=tensor.dtype, count=tensor.numel(), offset=at)
            room.view(tensor.shape).copy_(tensor.detach())
        at += tensor.nbytes
    return memoryview(content)


def _once(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The names of tied weights that aren't written, each with the one under which they are.

    The library's ``load_model`` wants it so, and ``save_model`` does it.
    """
    first: dict[tuple[object, ...], str] = {}
    again = {}
    for name, tensor in sorted(tensors.items()):
        place = tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
        if tensor.numel() and first.setdefault(place, name) != name:
            again[name] = first[place]
    return again


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
