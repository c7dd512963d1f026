"""JSON that nobody of ours would write: values where others are expected, and texts of bad will."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def nasty(canary: Path) -> list[Any]:
    """Values where others are expected."""
    deep: Any = 0
    for _ in range(200):
        deep = [deep]
    numbers = [0, -1, 1, 2**31, 2**63, 2**64, 10**400, 1e308, 5e-324, -0.5, float("nan")]
    strings = ["", "../canary/file.txt", str(canary / "file.txt"), str(canary), "../canary"]
    others = ["x" * 1_000_000, "\x00", "\ud800", f"{canary}/code.py:Net", "cuda:99", "meta"]
    things = [None, True, False, [], {}, [[]], {"a": {}}, [None] * 1000, deep, float("inf")]
    return [*numbers, *strings, *others, *things]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is a value in a JSON tree."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def edited(tree: Any, canary: Path, chance: random.Random) -> Any:
    """The tree with one or two values replaced, removed or added."""
    for _ in range(chance.randint(1, 2)):
        spots = [spot for spot in places(tree) if spot]
        if not spots:
            return tree
        *way, last = chance.choice(spots)
        parent = tree
        for key in way:
            parent = parent[key]
        match chance.randrange(8):
            case 0 if isinstance(parent, dict):
                del parent[last]
            case 1 if isinstance(parent, dict):
                parent["unknown"] = chance.choice(nasty(canary))
            case _:
                parent[last] = chance.choice(nasty(canary))
    return tree


def every_string(value: Any, to: str) -> Any:
    """The tree with all its strings, but the name of a network of ours, replaced."""
    if isinstance(value, dict):
        return {key: every_string(each, to) for key, each in value.items()}
    if isinstance(value, list):
        return [every_string(each, to) for each in value]
    return to if isinstance(value, str) and value != "lenet" else value


TEXTS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "zeros": lambda: bytes(4096),
    "a list": lambda: b"[]\n",
    "null": lambda: b"null\n",
    "an empty object": lambda: b"{}\n",
    "half": lambda: b'{"format": 1, "st',
    "nested deeply": lambda: b"[" * 1_000_000,
    "objects nested deeply": lambda: b'{"a":' * 500_000,
    "lists in lists": lambda: b'{"a": [' + b"[]," * 1_300_000 + b"0]}\n",
    "a number of 3 million digits": lambda: b'{"format": ' + b"9" * 3_000_000 + b"}\n",
    "no UTF-8": lambda: b'{"format": "\xff\xfe"}\n',
    "UTF-16": lambda: '{"format": 1}'.encode("utf-16"),
    "one line of 60 MB": lambda: b'{"a": "' + b"x" * 60_000_000,
    "many small lines": lambda: b"{}\n" * 10_000_000,
    "many broken lines": lambda: b"{\n" * 1_000_000,
    "100 MB of JSON": lambda: b'{"format": 1, "a": [' + b"1," * 50_000_000 + b"1]}\n",
}
