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


def documented() -> dict[str, list[str]]:
    """The keys in each section of the docs, by the event's name."""
    sections = re.split(r"^## `([a-z-]+)`$", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        name: re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
        for name, text in zip(sections[1::2], sections[2::2], strict=True)
    }


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
    assert found == {name: keys for name, keys in documented().items() if name in found}
    assert found.keys() == documented().keys()


def test_each_is_strict_json_and_says_the_same_when_read_back(training: ModuleType) -> None:
    for event in one_of_each(training):
        values = event.as_dict()
        assert json.loads(json.dumps(values, allow_nan=False)) == values


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_isnt_finite_is_null(training: ModuleType, bad: float) -> None:
    event = dataclasses.replace(training.chunk(1, 2), train_loss=bad)
    assert event.as_dict()["train_loss"] is None
    json.dumps(event.as_dict(), allow_nan=False)
