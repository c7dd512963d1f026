"""Every event is strict JSON, with the keys that docs/events.md lists."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from fivebyfive.training import events
from fivebyfive.training.events import Event, LearningRateChanged, Paused, Resumed, Stopped

DOCS = Path(__file__).parents[2] / "docs" / "events.md"


def is_list(value: object, of: type) -> bool:
    return isinstance(value, list) and all(isinstance(each, of) for each in value)


#: What the docs call the types of JSON.
JSON = {
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "true or false": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "object": lambda value: isinstance(value, dict),
    "list of strings": lambda value: is_list(value, str),
    "list of objects": lambda value: is_list(value, dict),
}


def documented(heading: str) -> dict[str, dict[str, str]]:
    """The keys in each section of the docs and their types, by the name in the section's title."""
    sections = re.split(r"^(#+ .*)$", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        title.removeprefix(heading).strip(" `"): dict(
            re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, flags=re.MULTILINE)
        )
        for title, text in zip(sections[1::2], sections[2::2], strict=True)
        if title.startswith(f"{heading} `")
    }


def is_a(value: object, types: str) -> bool:
    """Whether a JSON value is of a type as the docs name it."""
    names = [types] if types in JSON else types.split(" or ")
    return any(JSON[name](value) for name in names)


def one_of_each(training: ModuleType) -> list[Event]:
    told = {type(event): event for event in training.events(plateau=1, run=Path("runs/r"))}
    asked = (Paused(1, 2), Resumed(1, 2, 0.5), Stopped(3, 0), LearningRateChanged(1, 2, 0.9, 0.1))
    return [*told.values(), *asked]


def test_the_docs_list_every_event_and_every_key(training: ModuleType) -> None:
    made = one_of_each(training)
    assert {type(event) for event in made} == set(get_args(events.Event))
    found = {}
    for event in made:
        values = event.as_dict()
        name = values.pop("event")
        found[name] = list(values)
        assert found[name] == [field.name for field in dataclasses.fields(event)]
    assert found == {name: list(keys) for name, keys in documented("##").items()}


@pytest.mark.parametrize(("name", "kind"), [("speed", events.Speed), ("result", events.Result)])
def test_the_docs_list_every_key_of_a_part(name: str, kind: type) -> None:
    assert list(documented("###")[name]) == [field.name for field in dataclasses.fields(kind)]


def test_values_have_the_types_that_the_docs_name(training: ModuleType) -> None:
    docs, parts = documented("##"), documented("###")
    for event in one_of_each(training):
        values = event.as_dict()
        types = docs[values.pop("event")]
        for key, value in values.items():
            assert is_a(value, types[key]), f"{key} is {value!r}"
            for inner, type_ in parts.get(key, {}).items():
                assert is_a(value[inner], type_), f"{key}.{inner} is {value[inner]!r}"


def test_each_is_strict_json_and_says_the_same_when_read_back(training: ModuleType) -> None:
    for event in one_of_each(training):
        values = event.as_dict()
        assert json.loads(json.dumps(values, allow_nan=False)) == values


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_isnt_finite_is_null(training: ModuleType, bad: float) -> None:
    losses = {"train_loss": bad, "test_loss": bad}
    result = dataclasses.replace(training.result(), **losses)
    told = (
        dataclasses.replace(training.chunk(1, 2), train_loss=bad).as_dict(),
        dataclasses.replace(training.epoch_done(1), **losses).as_dict(),
        events.Finished(result, None).as_dict()["result"],
    )
    for values in told:
        json.dumps(values, allow_nan=False)
        assert values["train_loss"] is None
        assert values.get("test_loss") is None
