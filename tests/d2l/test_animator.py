from __future__ import annotations

import gc
from pathlib import Path

import torch
from PIL import Image

from fivebyfive import d2l
from fivebyfive.d2l import animator as module


def pngs():
    return sorted(path.name for path in Path.cwd().iterdir())


def test_points_are_kept_and_none_adds_nothing():
    animator = d2l.Animator(xlabel="epoch", xlim=[1, 9], legend=["a", "b"])
    animator.add(0.5, (1, None))
    animator.add(1, (torch.tensor(2.0, requires_grad=True), 3.0))
    animator.add([2, 3], [4, 5])
    assert animator.X == [[0.5, 1.0, 2.0], [1.0, 3.0]]
    assert animator.Y == [[1.0, 2.0, 4.0], [3.0, 5.0]]
    axes = animator.axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[0.5, 1], [1, 2], [2, 4]],
        [[1, 3], [3, 5]],
    ]
    assert axes.get_xlabel() == "epoch"
    assert axes.get_xlim() == (1, 9)
    assert axes.get_ylim()[0] <= 1
    assert axes.get_ylim()[1] >= 5


def test_one_curve_takes_bare_numbers():
    animator = d2l.Animator()
    animator.add(1, 7)
    animator.add(2, torch.tensor(8))
    assert (animator.X, animator.Y) == ([[1.0, 2.0]], [[7.0, 8.0]])


def test_writes_now_and_then_and_at_the_end(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    animator = d2l.Animator(xlim=[1, 5])
    drawn = []
    save = animator.fig.savefig
    monkeypatch.setattr(animator.fig, "savefig", lambda *a, **k: drawn.append(a) or save(*a, **k))
    for x, writes in ((1, 1), (2, 1), (3, 1)):
        animator.add(x, x)
        assert len(drawn) == writes
    now += module.PATIENCE
    animator.add(4, 4)
    assert len(drawn) == 2
    animator.add(5, 5)
    assert len(drawn) == 3
    assert pngs() == ["animator-1.png"]
    with Image.open("animator-1.png") as image:
        assert image.width > 300
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"Animator: curves in {Path.cwd() / 'animator-1.png'}\n")


def test_a_forgotten_animator_leaves_its_last_curves():
    animator = d2l.Animator()
    animator.add(1, 1)
    before = Path("animator-1.png").read_bytes()
    animator.add(2, 9)
    assert Path("animator-1.png").read_bytes() == before
    del animator
    gc.collect()
    assert Path("animator-1.png").read_bytes() != before


def test_no_file_is_replaced():
    Path("animator-1.png").write_text("mine")
    for _ in range(2):
        d2l.Animator().add(1, 1)
    assert pngs() == ["animator-1.png", "animator-2.png", "animator-3.png"]
    assert Path("animator-1.png").read_text() == "mine"


def test_without_points_there_is_no_file():
    d2l.Animator()
    gc.collect()
    assert pngs() == []


def test_a_disk_that_cannot_be_written_ends_nothing(monkeypatch, capsys):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_bytes", full)
    animator = d2l.Animator(xlim=[1, 2])
    animator.add(1, 1)
    animator.add(2, 2)
    told = capsys.readouterr().err
    assert told.count("No space left on device") == 1
    assert pngs() == []


def test_several_axes_the_first_is_drawn_into():
    animator = d2l.Animator(nrows=2, ncols=2)
    animator.add(1, 1)
    assert [len(axes.lines) for axes in animator.axes] == [1, 0, 0, 0]


def test_animators_are_none_of_pyplots_figures():
    d2l.Animator().add(1, 1)
    assert d2l.plt.get_fignums() == []


class Handle:
    def __init__(self):
        self.shown = []

    def update(self, image, raw):
        assert raw
        self.shown.append(image)


def test_in_a_notebook_one_display_is_updated(monkeypatch):
    handle = Handle()
    calls = []

    def display(image, raw, display_id):
        calls.append(image)
        return handle

    monkeypatch.setattr(module, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", display)
    animator = d2l.Animator(xlim=[1, 2])
    for x in (1, 1.5, 2):
        animator.add(x, x)
    del animator
    gc.collect()
    assert (len(calls), len(handle.shown)) == (1, 2)
    assert all("<svg" in image["image/svg+xml"] for image in (*calls, *handle.shown))
    assert pngs() == []
