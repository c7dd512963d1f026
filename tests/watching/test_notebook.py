import base64
import io
import json
from pathlib import Path

import nbclient
import nbformat
import pytest
from PIL import Image

from fivebyfive.watching import notebook

EVENTS = Path(__file__).parent.with_name("training_events.py")

CELL = f"""
import runpy, sys
from fivebyfive.watching import choose
from fivebyfive.watching.notebook import Notebook

assert isinstance(choose(), Notebook)
now = 0.0
listener = Notebook(clock=lambda: now)
for event in runpy.run_path({json.dumps(str(EVENTS))})["events"](
    epochs=2, notice="sample <data> used", plateau=1
):
    listener.on(event)
    now += 10.0
listener.close()
"matplotlib.pyplot" in sys.modules
"""


@pytest.fixture(scope="module")
def outputs():
    """What a real kernel shows after the cell."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    nbclient.NotebookClient(book, timeout=60).execute()
    return book.cells[0].outputs


def shown(outputs, kind):
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


def test_one_picture_updated_in_place(outputs):
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 1
    assert pictures[0]["metadata"] == {"image/png": {"width": 576, "height": 252}}
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]["data"]["image/png"]))) as image:
        assert image.size == (1152, 504)


def test_the_text_is_header_progress_and_summary(outputs):
    head, *_ = texts = shown(outputs, "text/plain")
    assert head.startswith("recipe    lenet-d2l")
    progress = [text for text in texts if text.startswith("epoch ")]
    assert len(progress) == 1
    assert progress[0].startswith("epoch 2/2 · 100 % · ")
    assert any(t.startswith("loss 0.469, train acc 0.824, test acc 0.804\n23000.0") for t in texts)
    assert not any("starting" in text for text in texts)


def test_notices_stand_out_and_are_escaped(outputs):
    notices = shown(outputs, "text/html")
    assert len(notices) == 3
    assert "sample &lt;data&gt; used" in notices[0]
    assert "still guesses" in notices[1]


def test_nothing_else_is_shown_and_pyplot_is_left_alone(outputs):
    assert {output["output_type"] for output in outputs} == {"display_data", "execute_result"}
    assert outputs[-1]["data"]["text/plain"] == "False"


class Display:
    """Stands for IPython's ``display``: each call makes a handle that keeps what it showed."""

    def __init__(self):
        self.handles = []

    def __call__(self, data, **_options):
        handle = Handle(data)
        self.handles.append(handle)
        return handle


class Handle:
    def __init__(self, data):
        self.shown = [data]

    def update(self, data, **_options):
        self.shown.append(data)


@pytest.fixture
def display(monkeypatch):
    stand_in = Display()
    monkeypatch.setattr(notebook, "display", stand_in)
    return stand_in


def test_the_picture_is_redrawn_at_the_marks_and_no_faster_than_its_pace(training, display):
    now = 0.0
    listener = notebook.Notebook(clock=lambda: now)
    listener.on(training.started())
    _, picture, line = display.handles
    listener.on(training.chunk(1, 40, mark=False))
    assert (len(picture.shown), len(line.shown)) == (1, 2)
    now = 1.0
    listener.on(training.chunk(1, 47))
    listener.on(training.chunk(1, 94))
    assert (len(picture.shown), len(line.shown)) == (2, 3)
    listener.close()
    assert (len(picture.shown), len(line.shown)) == (3, 4)
    listener.close()
    assert len(picture.shown) == 3


def test_every_display_is_made_once(training, display):
    listener = notebook.Notebook()
    for event in training.events(epochs=1, notice="sample data used", plateau=1):
        listener.on(event)
    listener.close()
    kinds = [next(iter(handle.shown[-1])) for handle in display.handles]
    notice = "text/html"
    assert kinds == ["text/plain", notice, "image/png", "text/plain", notice, "text/plain", notice]


def test_a_training_that_stops_before_its_first_step_says_so(training, display):
    listener = notebook.Notebook()
    listener.on(training.started())
    listener.close()
    assert display.handles[-1].shown[-1] == {"text/plain": "stopped before the first step"}
