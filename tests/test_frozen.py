"""What users and their programs rely on: each command's ``--help``, the form of each ``--json``.

``tests/frozen`` holds them. Where a change is meant, ``RENEW=1 pytest tests/test_frozen.py``
records them anew, and the change shows in the diff and in CHANGELOG.md.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fivebyfive import cli, recipes

FROZEN = Path(__file__).parent / "frozen"
COMMANDS = ("train", "test", "layers", "reproduce", "data", "doctor")
Compare = Callable[[Path, str], None]


def form(value: object) -> dict[str, str]:
    """The types in a JSON value by their paths; what a list holds is one path."""
    types: dict[str, set[str]] = {}

    def note(value: object, path: str) -> None:
        types.setdefault(path, set()).add("null" if value is None else type(value).__name__)
        if isinstance(value, dict):
            for key, each in value.items():
                note(each, f"{path}.{key}")
        if isinstance(value, list):
            for each in value:
                note(each, f"{path}[]")

    note(value, "")
    return {path: " or ".join(sorted(kinds)) for path, kinds in types.items()}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(
    command: str,
    same_as_recorded: Compare,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # So wide that no line is broken: where lines break differs from one Python to another.
    monkeypatch.setenv("COLUMNS", "2000")
    monkeypatch.setenv("NO_COLOR", "1")
    with pytest.raises(SystemExit) as left:
        cli.main([*command.split(), "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    # Python 3.13 and later name the value once: "--dataset, --data WORD".
    text = re.sub(r"(--\S+) (\S+), (--\S+ \2)", r"\1, \3", text)
    same_as_recorded(FROZEN / f"help-{command or 'fivebyfive'}.txt", text)


def test_json(
    same_as_recorded: Compare,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    # So that the list of datasets has one that isn't found, on a machine that has all of them, too.
    monkeypatch.setenv("FIVEBYFIVE_DATA", str(tmp_path / "none"))
    short = recipes.get("convnet-mnist").but(epochs=1, dataset="tiny")
    figures = {"test_acc": recipes.Published(0.9, 0.0, 1.0, 1, "made up")}
    monkeypatch.setitem(
        recipes.RECIPES, "short", dataclasses.replace(short, name="short", published=figures)
    )
    data = f"--data {tiny_folder}"
    for name, words in {
        "train": f"train lenet --epochs 1 --run run {data}",
        "test": f"test run {data}",
        "layers": "layers run",
        "reproduce": f"reproduce short --seeds 1 --run runs {data}",
        "datasets": "data",
        "data": f"data mnist {data}",
        "data-verify": f"data sample --verify {data}",
        "doctor": "doctor",
    }.items():
        assert cli.main([*words.split(), "--json"]) == 0
        found = form(json.loads(capsys.readouterr().out))
        same_as_recorded(FROZEN / f"json-{name}.json", json.dumps(found, indent=2) + "\n")
