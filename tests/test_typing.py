"""What type checkers, and so editors, say of calls in a user's own project."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fivebyfive as fbf

SOURCE = Path(inspect.getfile(fbf)).parents[1]

RIGHT = """\
from pathlib import Path

from torch import nn

import fivebyfive as fbf

run: fbf.Run = fbf.train("lenet", epochs=3, lr=0.5, optimizer="adam", precision="bf16", seed=7)
fbf.train(nn.Linear(2, 2), data=Path("here"), resize=28, batch_size=64, init="default", loss="nll")
fbf.train(config="mine.toml", network="alexnet", mean=0, std=1, limit=None, watch="quiet")
fbf.resume(run, allow=["recipe"], epochs=20, lr=1, precision="fp32")
recipe: fbf.Recipe = fbf.recipes.get("lenet-d2l").but(name="mine", epochs=3, dataset="mnist")
rate: float = recipe.lr
fbf.train(recipe, device="cpu")
settings: fbf.recipes.Settings = {"epochs": 3, "lr": 0.1}
fbf.train("lenet", **settings)
"""

#: Every line but the first is one that no checker may accept.
WRONG = """\
import fivebyfive as fbf; recipe = fbf.recipes.get("lenet-d2l")
fbf.train("lenet", epoch=3)
fbf.train("lenet", epochs="3")
fbf.train("lenet", epochs=2.5)
fbf.train("lenet", lr="fast")
fbf.train("lenet", optimizer="rmsprop")
fbf.train("lenet", precision="fp64")
fbf.train("lenet", data=3)
fbf.train("lenet", watch="loud")
fbf.train("lenet", seed=[1])
fbf.resume("run", batch_size=3)
fbf.resume("run", lr="fast")
recipe.but(epoch=3)
recipe.but(init="normal")
number: int = recipe.lr
fbf.trian("lenet")
"""
LINES = len(WRONG.splitlines())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    return tmp_path


def said(tool: str, *words: str, project: Path) -> str:
    starts = subprocess.run(
        [sys.executable, "-m", tool, "--version"], capture_output=True, check=False
    )
    if starts.returncode:
        pytest.skip(f"{tool} can't be started: {starts.stderr.decode()[-200:]}")
    # A package on PYTHONPATH is found by Python alone; one that is installed, by the tools too.
    found = {} if "site-packages" in SOURCE.parts else {"MYPYPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-m", tool, *words, "right.py", "wrong.py"],
        cwd=project,
        env={**os.environ, **found},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # errors were found; 2: it didn't run
    return done.stdout


@pytest.mark.parametrize(
    "left_out",
    ["torch.*,matplotlib.*,numpy.*,rich.*", pytest.param("none", marks=pytest.mark.slow)],
    ids=["without-torch", "whole"],  # the whole takes 13 seconds, without these 4
)
def test_mypy(project: Path, left_out: str) -> None:
    (project / "mypy.ini").write_text(
        "[mypy]\nstrict = true\n[mypy-fivebyfive.*]\nfollow_imports = silent\n"
        f"[mypy-{left_out}]\nfollow_imports = skip\n"
    )
    text = said("mypy", project=project)
    assert "right.py" not in text, text
    lines = {int(number) for number in re.findall(r"^wrong\.py:(\d+): error", text, re.MULTILINE)}
    assert lines == set(range(2, LINES + 1)), text


def test_pyright(project: Path) -> None:
    (project / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "strict", "extraPaths": [str(SOURCE)]})
    )
    text = said("pyright", "--outputjson", "--pythonpath", sys.executable, project=project)
    errors = [e for e in json.loads(text)["generalDiagnostics"] if e["severity"] == "error"]
    assert not [e for e in errors if not e["file"].endswith("wrong.py")], text
    lines = {e["range"]["start"]["line"] + 1 for e in errors}
    assert lines == set(range(2, LINES + 1)), text
