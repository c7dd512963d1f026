import numpy as np
import pytest

from fivebyfive.datasets import arrays
from fivebyfive.datasets.folder import NAMES
from fivebyfive.lib.errors import DataError, DataNotFoundError

from .made import encode


@pytest.fixture
def write(tmp_path):
    """Write four files that fit each other, with some of them replaced."""

    def write(**other):
        values = {
            "train_images": np.zeros((6, 4, 5)),
            "train_labels": np.arange(6) % 3,
            "test_images": np.zeros((4, 4, 5)),
            "test_labels": np.arange(4) % 3,
            **other,
        }
        for name, value in zip(NAMES, values.values(), strict=True):
            (tmp_path / name).write_bytes(encode(value))
        return tmp_path

    return write


def test_reads_four_files(write):
    read = arrays.read(write())
    assert read.train_images.shape == (6, 1, 4, 5)
    assert read.test_images.shape == (4, 1, 4, 5)
    assert read.shape == (1, 4, 5)
    assert read.classes == 3
    assert tuple(read.digests) == NAMES
    assert "array(" not in repr(read)


def test_reads_images_with_channels(write):
    read = arrays.read(
        write(train_images=np.zeros((6, 3, 4, 5)), test_images=np.zeros((4, 3, 4, 5)))
    )
    assert read.shape == (3, 4, 5)


def test_a_missing_file_is_named(write):
    folder = write()
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataNotFoundError, match="no t10k-labels-idx1-ubyte"):
        arrays.read(folder)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"train_labels": np.arange(5)}, "train-labels.*5 labels; expected 6, .*train-images"),
        ({"test_labels": np.arange(3)}, "t10k-labels.*3 labels; expected 4, .*t10k-images"),
        ({"test_images": np.zeros((4, 5, 4))}, "t10k-images.*images of 5×4; expected 4×5"),
        ({"test_labels": np.full(4, 3)}, "t10k-labels.*out of range: up to 3, .*only to 2"),
        ({"train_labels": np.zeros((6, 4, 5))}, "train-labels.*a file of images.*swapped"),
    ],
)
def test_files_that_dont_fit_are_told(write, other, message):
    with pytest.raises(DataError, match=message):
        arrays.read(write(**other))
