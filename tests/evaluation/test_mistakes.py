from __future__ import annotations

import dataclasses

import matplotlib.image
import numpy as np
import pytest
import torch

from fivebyfive.datasets.splits import Split
from fivebyfive.evaluation.evaluate import Evaluation, Mistake
from fivebyfive.evaluation.mistakes import _headline, draw_confusion, draw_mistakes


def colours(path) -> int:
    """How many different colours a picture has; 1 for an empty one."""
    pixels = (255 * matplotlib.image.imread(path)).astype(np.uint8)
    return len(np.unique(pixels.view(np.uint32)))  # red, green, blue and alpha as one number


def test_the_confusion_matrix_is_a_picture(verdict, tmp_path):
    draw_confusion(verdict, tmp_path / "confusion.png")
    assert colours(tmp_path / "confusion.png") > 50
    assert [path.name for path in tmp_path.iterdir()] == ["confusion.png"]


def test_many_classes_have_no_numbers(tmp_path):
    confusion = tuple(tuple(int(i == j) for j in range(26)) for i in range(26))
    verdict = Evaluation(0.0, 26, 26, tuple(map(str, range(26))), confusion, ())
    draw_confusion(verdict, tmp_path / "confusion.png")
    assert colours(tmp_path / "confusion.png") > 50


@pytest.mark.parametrize("count", [1, 2, 25])
def test_mistakes_are_a_picture(verdict, split, tmp_path, count):
    draw_mistakes(verdict, split, tmp_path / "mistakes.png", count)
    assert colours(tmp_path / "mistakes.png") > 10


def test_coloured_images(verdict, tmp_path):
    images = torch.zeros(12, 3, 4, 4, dtype=torch.uint8)
    images[:, 0] = 255
    split = Split(images, torch.zeros(12, dtype=torch.int64))
    draw_mistakes(verdict, split, tmp_path / "mistakes.png")
    pixels = matplotlib.image.imread(tmp_path / "mistakes.png")[..., :3]
    assert (pixels == [1, 0, 0]).all(axis=-1).any()


def test_no_mistakes_are_a_picture_too(verdict, split, tmp_path):
    draw_mistakes(dataclasses.replace(verdict, mistakes=()), split, tmp_path / "mistakes.png")
    assert colours(tmp_path / "mistakes.png") > 1


def test_headlines(verdict):
    mistakes = verdict.mistakes
    assert _headline(verdict, mistakes) == "All mistakes among 12 images: 3"
    assert _headline(verdict, mistakes[:2]) == "The most confident 2 of 3 mistakes among 12 images"
    perfect = dataclasses.replace(verdict, mistakes=())
    assert _headline(perfect, ()) == "No mistake among 12 images"


def test_a_drawing_that_fails_leaves_the_old_picture(verdict, split, tmp_path):
    path = tmp_path / "mistakes.png"
    path.write_bytes(b"old")
    lost = dataclasses.replace(verdict, mistakes=(Mistake(99, 0, 1, 0.5),))
    with pytest.raises(IndexError):
        draw_mistakes(lost, split, path)
    assert path.read_bytes() == b"old"
    with pytest.raises(FileNotFoundError):
        draw_confusion(verdict, tmp_path / "missing" / "confusion.png")
