import dataclasses
import math
import subprocess
import sys

import pytest
from PIL import Image

from fivebyfive.runs.log import row
from fivebyfive.watching.curves import History, draw, figure


def history(events):
    collected = History()
    for event in events:
        collected.add(event)
    return collected


def texts(picture):
    found = [text.get_text() for text in picture.texts]
    for axes in picture.axes:
        found += [text.get_text() for text in axes.get_legend().get_texts()]
    return found


def test_the_points_are_marks_and_epochs(training):
    h = history(training.events(epochs=2))
    assert len(h.train_loss.x) == len(h.train_acc.x) == 14
    assert h.train_loss.x == sorted(h.train_loss.x)
    assert h.test_acc.x == [1, 2]
    assert (h.title, h.epochs) == ("lenet-d2l on fashion-mnist", 2)


def test_rows_give_the_same_history_as_events(training):
    events = list(training.events(plateau=1))
    rows = [r for e in events if (r := row(e)) is not None]
    assert History.from_rows(rows, "lenet-d2l on fashion-mnist", 10) == history(events)


def test_the_picture_tells_recipe_data_and_final_figures(training):
    assert texts(figure(history(training.events()))) == [
        "lenet-d2l on fashion-mnist",
        "loss 0.469, train acc 0.824, test acc 0.804",
        "train loss 0.469",
        "train acc 0.824",
        "test acc 0.804",
    ]


def test_a_curve_of_one_point_is_seen():
    h = History(epochs=3)
    h.train_loss.add(0.5, 2.0)
    assert figure(h).axes[0].lines[0].get_marker() == "o"
    h.train_loss.add(1.0, 1.0)
    assert figure(h).axes[0].lines[0].get_marker() == "None"


@pytest.mark.parametrize("epochs", [10, 100])
def test_dots_can_be_told_apart_and_the_last_is_one(epochs):
    h = History(epochs=epochs)
    for epoch in range(1, epochs + 1):
        h.test_acc.add(epoch, 0.5)
    first, every = figure(h).axes[1].lines[1].get_markevery()
    dotted = h.test_acc.x[first::every]
    assert dotted[-1] == epochs
    assert 10 <= len(dotted) <= 25


@pytest.mark.parametrize("loss", [9000, 12345, 1e30])
def test_no_number_leaves_the_picture(loss):
    h = History(epochs=2)
    h.train_loss.add(0.5, loss)
    h.train_loss.add(1.0, 1.0)
    picture = figure(h)
    picture.canvas.draw()
    axes = picture.axes[0]
    assert axes.yaxis.get_tightbbox(picture.canvas.get_renderer()).x0 >= 0
    offset = axes.yaxis.get_offset_text().get_window_extent()
    assert not offset.overlaps(axes.get_legend().get_window_extent()) or not offset.width


def test_draw_leaves_one_png_and_nothing_else(training, tmp_path):
    draw(history(training.events()), tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG"
        assert image.size == (1280, 560)


@pytest.mark.parametrize("epochs", [1, 2, 50])
def test_every_length_can_be_drawn(training, tmp_path, epochs):
    shown = history(training.events(epochs=epochs))
    assert len(shown.test_acc.x) == epochs
    draw(shown, tmp_path / "curves.png")
    assert drawn(tmp_path / "curves.png") > 1000


def test_a_training_that_diverged_or_never_began_can_be_drawn(training, tmp_path):
    bad = dataclasses.replace(training.chunk(1, 47), train_loss=math.nan, train_acc=0.1)
    worse = dataclasses.replace(training.epoch_done(1), train_loss=math.inf, test_acc=math.nan)
    draw(history([training.started(), bad, worse]), tmp_path / "diverged.png")
    draw(History(), tmp_path / "empty.png")
    # The one accuracy that is a number makes a point.
    assert drawn(tmp_path / "diverged.png") > drawn(tmp_path / "empty.png") > 0


def test_a_title_is_taken_literally(tmp_path):
    """As mathematics it would be an error; drawn as it stands it is more ink than no title."""
    draw(History(title=r"my$net on $\frac{"), tmp_path / "curves.png")
    draw(History(), tmp_path / "without.png")
    assert drawn(tmp_path / "curves.png") > drawn(tmp_path / "without.png")


def drawn(path):
    """How many pixels of a picture aren't white."""
    with Image.open(path) as image:
        return sum(count for count, color in image.convert("L").getcolors() if color < 250)


def test_pyplot_is_left_alone():
    code = "import sys, fivebyfive.watching.curves; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "False\n"
