"""Programs in the book's manner run, as a script and as a notebook, with one line changed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

CHAPTERS = Path(__file__).with_name("chapters.py").read_text(encoding="utf-8")
CELLS = re.split(r"^# %%.*$", CHAPTERS, flags=re.M)[1:]
#: How many of the cells train, and how many of these with train_ch6.
TRAININGS, BY_TRAIN_CH6 = 7, 6

RESULT = re.compile(r"^loss \d+\.\d{3}, train acc [01]\.\d{3}, test acc [01]\.\d{3}$", re.M)
SPEED = re.compile(r"^\d+\.\d examples/sec on (cpu|cuda:0)$", re.M)
START = re.compile(r"^training on (cpu|cuda:0)$", re.M)


@pytest.fixture(autouse=True)
def a_machine_of_its_own(monkeypatch):
    """No display, and one thread: several wait for each other where tests run side by side."""
    for name in ("DISPLAY", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def check_text(text):
    assert len(START.findall(text)) == TRAININGS
    assert len(SPEED.findall(text)) == TRAININGS
    assert len(RESULT.findall(text)) == BY_TRAIN_CH6
    assert "edges [0.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0]" in text
    assert "pooled [[4.0, 5.0], [7.0, 8.0]]\npooled (1, 2, 2, 2)" in text
    assert "residual (4, 6, 3, 3)" in text
    assert "gamma (6,)" in text
    assert "Flatten output shape:\t torch.Size([1, 10])" in text


@pytest.mark.slow  # what test_as_a_notebook runs, too
def test_as_a_script(tmp_path):
    script = tmp_path / "chapters.py"
    script.write_text(CHAPTERS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    check_text(done.stdout)
    # One figure for each training, and only lines naming them on stderr.
    pngs = sorted(tmp_path.glob("*.png"))
    assert [p.name for p in pngs] == [f"animator-{n}.png" for n in range(1, TRAININGS + 1)]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pngs)
    assert done.stderr == "".join(f"Animator: curves in {p}\n" for p in pngs)


@pytest.mark.slow
def test_as_a_notebook(tmp_path):
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        notebook,
        timeout=200,
        resources={"metadata": {"path": str(tmp_path)}},
        kernel_name="python3",
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    check_text("".join(o.text for o in outputs if o.output_type == "stream"))
    assert not [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"]
    # Each training's curves are one figure, redrawn in place; the last cell shows images, too.
    figures = [o.data for o in outputs if o.output_type == "display_data"]
    assert all("<svg" in figure["image/svg+xml"] for figure in figures)
    names = [figure["text/plain"] for figure in figures]
    assert names == ["Animator"] * TRAININGS + ["<Figure size 900x150 with 6 Axes>"]
    assert not list(tmp_path.glob("*.png"))
