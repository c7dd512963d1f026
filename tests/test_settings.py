from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_type_hints

import pytest

from fivebyfive.lib.errors import RecipeError
from fivebyfive.recipes import SETTINGS, Recipe, Settings
from fivebyfive.settings import Setting, declared

DOCS = Path(__file__).parents[1] / "docs" / "train.md"


@dataclass
class Record:
    plain: int
    count: Annotated[int | None, Setting("how many", least=2, alias="number")] = None
    kind: Annotated[Literal["a", "b"], Setting("which")] = "b"
    rate: Annotated[float, Setting("how fast", above=0.5)] = 1.0
    any_word: Annotated[str, Setting("a word")] = "x"


def test_what_a_field_declares() -> None:
    settings = declared(Record)
    assert list(settings) == ["count", "kind", "rate", "any_word"]
    count, kind, rate, word = settings.values()
    assert count.flags == ["--count", "--number"]
    assert word.flags == ["--any-word"]
    assert [each.metavar for each in settings.values()] == ["N", "a|b", "X", "WORD"]
    assert [each.type for each in settings.values()] == [int, str, float, str]
    assert [each.default for each in settings.values()] == [None, "b", 1.0, "x"]
    assert (count.help, kind.help) == ("how many", "which")
    assert count.optional
    assert not rate.optional


@pytest.mark.parametrize(
    ("name", "good", "bad", "expected"),
    [
        ("count", (None, 2, 2**63 - 1), (1, 2.0, True, "2"), "a whole number of at least 2"),
        ("count", (), (2**63,), "a number below 2**63"),
        ("kind", ("a", "b"), (None, "c", "", ["a"], 1), "one of a, b"),
        (
            "rate",
            (1, 0.6, 1e308),
            (None, 0.5, -1.0, float("nan"), float("inf"), 10**400, True, "1"),
            "a finite number above 0.5",
        ),
        ("any_word", ("y",), (None, "", 3, True), "a name"),
    ],
)
def test_checks_values(
    name: str, good: tuple[object, ...], bad: tuple[object, ...], expected: str
) -> None:
    setting = declared(Record)[name]
    for value in good:
        setting.check(value)
    for value in bad:
        with pytest.raises(RecipeError, match=f"^{name} is .*; expected {re.escape(expected)}.$"):
            setting.check(value)


def test_the_typed_keywords_are_the_settings() -> None:
    hints = get_type_hints(Settings)
    fields = get_type_hints(Recipe)
    for name in SETTINGS:
        line = f"{name}: {getattr(fields[name], '__name__', fields[name])} | None"
        assert hints.get(name) == fields[name] | None, f"put into recipes.Settings the line: {line}"
    assert hints.keys() == SETTINGS.keys(), "recipes.Settings has keys that are no settings"


def row(setting: Setting) -> str:
    """The setting's line in the table of docs/train.md."""
    names = [name.replace("_", "-") for name in (setting.name, setting.alias) if name]
    default = "" if setting.default is None else f"`{setting.default}`"
    values = ", ".join(f"`{each}`" for each in setting.choices) or setting.expected
    cells = (" or ".join(f"`{name}`" for name in names), setting.help, values, default)
    return f"| {' | '.join(cells)} |"


def test_the_table_in_the_docs(same_as_recorded: Callable[[Path, str], None]) -> None:
    text = DOCS.read_text(encoding="utf-8")
    head = "| setting | meaning | values | default |\n|---|---|---|---|\n"
    before, found, after = text.partition(head)
    assert found, f"{DOCS} has no table of the settings"
    after = after[after.index("\n\n") :]
    same_as_recorded(DOCS, before + head + "\n".join(map(row, SETTINGS.values())) + after)
