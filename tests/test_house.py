"""The house itself: its public names, which way imports run, and what its code never does."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fivebyfive as fbf

ROOT = Path(inspect.getfile(fbf)).parent
FILES = sorted(ROOT.rglob("*.py"))
#: Each room with all that lie below it; what a room isn't listed with, it doesn't import.
GROUND = {"errors", "files", "recipes", "randomness", "modes", "capacity", "networks", "datasets"}
GROUND |= {"", "config"}
BELOW = {
    "networks": {"errors"},
    "datasets": {"errors", "files"},
    "kernels": {"modes"},
    "engines": GROUND | {"kernels"},
    "training": GROUND | {"engines"},
    "watching": GROUND | {"training"},
    "looking": GROUND | {"training", "engines", "kernels"},
    "runs": GROUND | {"training", "engines", "watching", "kernels"},
    "d2l": GROUND | {"training", "engines", "watching"},
}


def imports(path: Path) -> set[str]:
    """The rooms and top-level modules of this package that a file imports."""
    package = ["fivebyfive", *path.relative_to(ROOT).with_suffix("").parts][:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package[: len(package) - node.level + 1]
        whole = [*base, *(node.module or "").split(".")] if node.module else base
        names = [[*whole, alias.name] for alias in node.names] if len(whole) == 1 else [whole]
        found |= {name[1] for name in names}
    return found


@pytest.mark.parametrize("room", BELOW)
def test_imports_run_down_only(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        above = imports(path) - BELOW[room] - {room, "__version__"}
        assert not above, f"{path.relative_to(ROOT)} imports {above}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_reads_pickles_or_runs_strings(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"import pickle|pickle\.load|torch\.load\(|shell=True|os\.system", text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "compile", "__import__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_is_and_stays_one_concept_long(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 300


def test_the_public_names_are_sorted_documented_and_there() -> None:
    assert list(fbf.__all__) == sorted(fbf.__all__)
    assert dir(fbf) == sorted(fbf.__all__)
    for name in fbf.__all__:
        assert getattr(fbf, name) is not None
        assert name == "__version__" or inspect.getdoc(getattr(fbf, name))
    with pytest.raises(AttributeError, match="has no attribute 'tran'"):
        _ = fbf.tran


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, fivebyfive.recipes, fivebyfive.networks\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'matplotlib', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
