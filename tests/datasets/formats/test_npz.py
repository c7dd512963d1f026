"""NumPy archives as data: every value against the arrays that went in, and each way to be wrong."""

import contextlib
import io
import struct
import zipfile

import numpy as np
import pytest
import torch

import fivebyfive as fbf
from fivebyfive import cli
from fivebyfive.datasets import formats, loading, search
from fivebyfive.lib.errors import DataError, DataNotFoundError

KERAS = ("x_train", "y_train", "x_test", "y_test")
MEDMNIST = ("train_images", "train_labels", "test_images", "test_labels")


def drawn(*shape, train=40, test=20, classes=3):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (n, *shape), dtype=np.uint8) for n in (train, test)]
    labels = [np.arange(n) % classes for n in (train, test)]
    return [images[0], labels[0], images[1], labels[1]]


def save(path, values, names=KERAS, **others):
    np.savez_compressed(path, **dict(zip(names, values, strict=True)), **others)
    return path


def test_every_format_says_what_it_expects_and_ignores_what_it_is_not(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    for format_ in formats.FORMATS:
        assert format_.name in format_.expected
        assert format_.find(tmp_path) is None
        assert format_.find(tmp_path / "missing") is None
    with pytest.raises(DataNotFoundError, match=r"\.npz file with the arrays x_train"):
        search.in_folder(tmp_path)


@pytest.mark.parametrize("names", [KERAS, MEDMNIST], ids=["keras", "medmnist"])
@pytest.mark.parametrize("inside", [False, True], ids=["the file", "its folder"])
def test_what_went_in_comes_out(tmp_path, names, inside):
    values = drawn(6, 5)
    path = save(tmp_path / "mine.npz", values, names, val_images=np.zeros(3))
    data = loading.load(tmp_path if inside else path)
    assert data.name == "mine"
    assert data.classes == ("0", "1", "2")
    assert np.array_equal(data.train.images.numpy(), values[0][:, None])
    assert np.array_equal(data.train.labels.numpy(), values[1])
    assert np.array_equal(data.test.images.numpy(), values[2][:, None])
    assert np.array_equal(data.test.labels.numpy(), values[3])


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2)], ids=["N, H, W, C", "N, C, H, W"])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_may_come_last_or_second(tmp_path, axes, channels):
    values = drawn(7, 5, channels)
    stored = [v.transpose(axes) if v.ndim == 4 else v[:, None] for v in values]
    data = loading.load(save(tmp_path / "mine.npz", stored))
    assert np.array_equal(data.train.images.numpy(), values[0].transpose(0, 3, 1, 2))
    assert np.array_equal(data.test.labels.numpy(), values[3])


def test_a_known_dataset_is_known_here_too(tiny, tmp_path):
    arrays = search.in_folder(tiny.put(tmp_path / "idx")).arrays
    values = [
        arrays.train_images[:, 0],
        arrays.train_labels,
        arrays.test_images[:, 0],
        arrays.test_labels,
    ]
    found = search.in_folder(save(tmp_path / "other.npz", values))
    assert (found.name, found.classes) == ("tiny", ("a", "b", "c", "d"))
    assert found.arrays.digests == arrays.digests
    values[1] = values[1][::-1]
    with pytest.raises(DataError, match=r"other\.npz.y_train: not the train-labels.* of tiny"):
        search.in_folder(save(tmp_path / "other.npz", values))


def test_a_file_named_as_a_known_dataset_is_ones_own(tiny, tmp_path):
    assert search.in_folder(save(tmp_path / "tiny.npz", drawn(6, 5))).name == "tiny (own)"


def changed(index, new):
    values = drawn(6, 5)
    values[index] = new
    return values


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (changed(0, np.zeros((40, 6, 5))), r"x_train: float64 values; expected uint8"),
        (changed(2, np.zeros((20, 30), np.uint8)), r"x_test: shape 20×30; expected \[N, H, W\]"),
        (changed(2, np.zeros((20, 6, 5, 2), np.uint8)), "with 1 or 3 channels"),
        (changed(0, np.zeros((0, 6, 5), np.uint8)), "x_train: shape 0×6×5"),
        (changed(1, np.eye(40, 3)), "y_train: float64 of shape 40×3; expected one whole number"),
        (changed(1, np.arange(40.0)), "y_train: float64 of shape 40"),
        (changed(1, np.arange(40) - 1), "y_train: from -1 to 38; expected 0 to 255"),
        (changed(3, np.full(20, 256)), "y_test: from 256 to 256"),
        (changed(3, np.full(20, 3)), "labels out of range: up to 3, but those of y_train"),
        (changed(1, np.arange(39) % 3), "39 labels"),
        (changed(2, np.zeros((20, 5, 6), np.uint8)), "5×6"),
        (changed(0, np.array([{}] * 40)), "Object arrays cannot be loaded"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, values, says):
    path = save(tmp_path / "mine.npz", values)
    with pytest.raises(DataError, match=says) as error:
        loading.load(path)
    assert str(path) in str(error.value)


def test_arrays_that_are_missing_are_named(tmp_path):
    path = save(tmp_path / "mine.npz", drawn(6, 5)[:2], KERAS[:2])
    with pytest.raises(DataError, match=r"holds x_train, y_train; expected one \.npz file with"):
        loading.load(path)


def test_of_two_files_neither_is_guessed(tmp_path):
    for name in ("a.npz", "b.npz"):
        save(tmp_path / name, drawn(6, 5))
    with pytest.raises(DataError, match=r"holds a\.npz, b\.npz; expected one"):
        loading.load(tmp_path)
    assert loading.load(tmp_path / "b.npz").name == "b"


def test_a_file_cut_short_is_an_error_at_any_length(tmp_path):
    path = save(tmp_path / "mine.npz", drawn(6, 5))
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"mine\.npz"):
            loading.load(path)


@pytest.mark.parametrize("seed", range(40))
def test_a_file_with_changed_bytes_never_raises_anything_else(tmp_path, seed):
    path = save(tmp_path / "mine.npz", drawn(6, 5))
    content = bytearray(path.read_bytes())
    for place in np.random.default_rng(seed).integers(0, len(content), 3):
        content[place] ^= 0xFF
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        loading.load(path)


def test_an_archive_that_would_unpack_without_bounds_is_refused_unread(tmp_path):
    """A bomb: 80 MiB of zeros in less than 400 kB."""
    path = save(tmp_path / "mine.npz", drawn(6, 5)[1:], KERAS[1:])
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (80, 1 << 10, 1 << 10)}
    np.lib.format.write_array_header_1_0(header, shape)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x_train.npy", "w") as member,
    ):
        member.write(header.getvalue())
        for _ in range(80):
            member.write(bytes(1 << 20))
    with pytest.raises(DataError, match=r"x_train: .* bytes, out of proportion"):
        loading.load(path)


def test_a_header_that_promises_more_than_there_is_costs_no_memory(tmp_path):
    """Of 2 ** 62 images in a member of a hundred bytes."""
    path = save(tmp_path / "mine.npz", drawn(6, 5)[1:], KERAS[1:])
    described = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**62}, 6, 5), }}\n".encode()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(
            "x_train.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(described)) + described
        )
    with pytest.raises(DataError, match=r"can't be read as \.npz"):
        loading.load(path)


def test_trained_from_the_shell_resumed_and_tested(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "mine.npz", drawn(12, 12, 3, train=64, test=32))
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3))\n"
    )
    arguments = ["net.py:net", "--data", "mine.npz", "--batch-size", "16"]
    more = ["--data", "mine.npz", "--epochs", "2", "--allow-change", "recipe"]
    assert cli.main(["train", *arguments, "--epochs", "1", "--run", "run"]) == 0
    assert cli.main(["train", "net.py:net", "--resume", "run", *more]) == 0
    assert cli.main(["test", "run", "--network", "net.py:net", "--data", "mine.npz"]) == 0
    assert cli.main(["data", "mine.npz", "--verify"]) == 0
    assert "x_train" in capsys.readouterr().out


def test_in_python_the_same_as_from_four_files(tiny, tmp_path):
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) for n in (64, 32)]
    labels = [np.arange(n, dtype=np.uint8) % 10 for n in (64, 32)]
    folder = tmp_path / "idx"
    folder.mkdir()
    values = [images[0], labels[0], images[1], labels[1]]
    for name, value in zip(search.NAMES, values, strict=True):
        header = bytes((0, 0, 8, value.ndim)) + struct.pack(f">{value.ndim}I", *value.shape)
        (folder / name).write_bytes(header + value.tobytes())
    places = {"idx": folder, "npz": save(tmp_path / "mine.npz", values)}
    states = []
    for name, data in places.items():
        run = fbf.train(
            "lenet", data=data, epochs=1, batch_size=16, watch="quiet", run=tmp_path / f"run-{name}"
        )
        states.append(run.network().state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
