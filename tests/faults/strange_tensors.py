"""Safetensors files that nobody of ours would write, made from good ones."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Makes a bad file's content from a good one's; knows the canary's folder.
Alter = Callable[[bytes, Path], bytes]


class Payload:
    """What a pickle of it does where someone loads it: it makes a folder beside the canary."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._canary / "touched"),)


Header = dict[str, Any]


def _split(content: bytes) -> tuple[Header, bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _joined(header: Header | bytes, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _length(value: int) -> Alter:
    return lambda content, _: struct.pack("<Q", value) + content[8:]


def _cut(size: int) -> Alter:
    return lambda content, _: content[:size]


def _first(**values: Any) -> Alter:
    """The first tensor with other entries."""

    def alter(content: bytes, canary: Path) -> bytes:
        header, data = _split(content)
        name = next((key for key in header if key != "__metadata__"), "a")
        plain = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
        header[name] = {**plain, **header.get(name, {}), **values}
        return _joined(header, data)

    return alter


def _headed(change: Callable[[Header], object]) -> Alter:
    def alter(content: bytes, canary: Path) -> bytes:
        header, data = _split(content)
        change(header)
        return _joined(header, data)

    return alter


def _filled(pattern: bytes) -> Alter:
    def alter(content: bytes, canary: Path) -> bytes:
        header, data = _split(content)
        return _joined(header, (pattern * (len(data) // len(pattern) + 1))[: len(data)])

    return alter


def _narrowed(content: bytes, canary: Path) -> bytes:
    """All tensors as half as many bytes, of another type."""
    header, data = _split(content)
    for entry in (entry for name, entry in header.items() if name != "__metadata__"):
        entry["dtype"] = "F16"
        entry["data_offsets"] = [end // 2 for end in entry["data_offsets"]]
    return _joined(header, data[: len(data) // 2])


TENSORS: dict[str, Alter] = {
    "cut to nothing": _cut(0),
    "cut in its length": _cut(7),
    "cut in its header": _cut(60),
    "cut in its data": lambda content, _: content[:-4],
    "with a header of 0 bytes": _length(0),
    "with a header of 2**63 bytes": _length(2**63),
    "with a header of 2**64 - 1 bytes": _length(2**64 - 1),
    "with a header longer than the file": _length(99_999_999),
    "with a header that is no JSON": lambda content, _: _joined(b"x" * 100, content),
    "with a header nested deeply": lambda content, _: _joined(b"[" * 300_000, content),
    "with a tensor past the end": _first(data_offsets=[0, 2**40]),
    "with negative offsets": _first(data_offsets=[-8, 4]),
    "with offsets the wrong way": _first(data_offsets=[400, 0]),
    "with offsets over others": _first(data_offsets=[4, 8]),
    "with a shape of others": _first(shape=[3, 50]),
    "with a shape of 2**80": _first(shape=[2**40, 2**40]),
    "with a shape that wraps around": _first(shape=[2**32, 2**32]),
    "with a dtype unknown": _first(dtype="X99"),
    "with a dtype of integers": _first(dtype="I32"),
    "with a dtype of truth": _first(dtype="BOOL"),
    "with all tensors halved": _narrowed,
    "with one tensor more": _headed(
        lambda header: header.update(
            {"../../canary": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}
        )
    ),
    "with 10,000 empty tensors": _headed(
        lambda header: header.update(
            {str(n): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(10_000)}
        )
    ),
    "without tensors": lambda *_: _joined({}, b""),
    "with strange metadata": _headed(lambda header: header.update({"__metadata__": {"a": [1]}})),
    "with data beyond it": lambda content, _: content + bytes(1000),
    "all NaN": _filled(struct.pack("<f", float("nan"))),
    "all infinite": _filled(struct.pack("<f", float("inf"))),
    "a pickle": lambda _, canary: pickle.dumps(Payload(canary)),
    "a pickle in a header": lambda content, canary: _joined(pickle.dumps(Payload(canary)), content),
}
