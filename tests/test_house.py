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
#: The rooms from the ground up: each imports from itself and from what stands before it.
ROOMS = (
    ("lib", "version"),
    ("settings", "optimizers"),
    ("recipes",),
    ("networks", "datasets"),
    ("kernels",),
    ("engines",),
    ("training",),
    ("memory",),
    ("summary",),
    ("evaluation",),
    ("watching",),
    ("runs",),
    ("config",),
    ("verbs",),
    ("d2l", "commands"),
    ("cli",),
    ("__init__", "__main__"),
)
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_down_only(path: Path) -> None:
    room = path.relative_to(ROOT).with_suffix("").parts[0]
    above = {other for other in imports(path) - {room} if RANK[other] >= RANK[room]}
    assert not above, f"{room} imports {above}, which stand no lower"


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
