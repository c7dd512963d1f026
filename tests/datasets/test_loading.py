import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fivebyfive import datasets
from fivebyfive.datasets import catalog, locate
from fivebyfive.lib.errors import DataError, DataNotFoundError, UnknownNameError


@pytest.mark.parametrize("name", datasets.names())
def test_every_named_dataset_loads(name, own_data):
    """Those that are on this machine, that is; nothing is downloaded."""
    if not any(place.folder for place in datasets.status(name)):
        pytest.skip(f"{name} isn't on this machine")
    data = datasets.load(name, download=False)
    assert data.name == name
    assert data.train.shape == data.test.shape == (1, 28, 28)
    assert len(data.classes) == 10
    assert data.notice is None
    for split in (data.train, data.test):
        assert split.images.dtype == torch.uint8
        assert split.images.is_contiguous()
        assert split.labels.dtype == torch.int64
        counts = split.labels.bincount(minlength=10)
        assert counts.min() > 0
        assert len(split.images) == len(split)


def test_images_can_be_written_to():
    data = datasets.load("sample")
    data.train.images[0] = 7
    assert datasets.load("sample").train.images[0].max() > 7


def test_limit_keeps_the_first_of_both_splits():
    full, data = datasets.load("sample"), datasets.load("sample", limit=30)
    assert len(data.train) == len(data.test) == 30
    assert torch.equal(data.test.images, full.test.images[:30])


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_told(limit):
    with pytest.raises(DataError, match=f"limit is {limit}; expected a whole number of at least 1"):
        datasets.load("sample", limit=limit)


def test_a_folder_by_path_and_by_argument(tiny, make, tmp_path):
    folder = make(seed=1).put(tmp_path / "mine")
    assert datasets.obtain(folder).name == "mine"
    for data in (
        datasets.load(str(folder)),
        datasets.load(folder),
        datasets.load("tiny", folder),
        datasets.load("tiny", str(folder), named=False),
    ):
        assert data.name == "mine"
        assert data.source == str(folder)
        assert data.train.shape == (1, 6, 5)


def test_a_bare_folder_name_and_a_catalog_name(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.put(Path("here"))
    assert datasets.load("here").name == "tiny"
    Path("sample").mkdir()
    assert len(datasets.load("sample").train) == 6000
    with pytest.raises(DataNotFoundError):
        datasets.load("./sample")


@pytest.mark.parametrize("name", ["./none", "~/no/such/folder", "a/b"])
def test_a_path_to_nothing_is_told_as_such(name):
    with pytest.raises(DataNotFoundError, match="no such folder"):
        datasets.load(name)


def test_an_unknown_name_is_told():
    for ask in (datasets.load, datasets.obtain, datasets.status):
        with pytest.raises(UnknownNameError, match="Did you mean 'mnist'"):
            ask("minst")


def test_an_unnamed_dataset_is_replaced_plainly(tiny):
    data = datasets.load("tiny", named=False)
    assert data.name == "sample"
    for part in (
        "tiny isn't available",
        "6,000 + 1,000 images",
        "fivebyfive data tiny",
        "dataset-tiny",
    ):
        assert part in data.notice


def test_a_named_dataset_is_never_replaced(tiny, tmp_path):
    with pytest.raises(DataNotFoundError, match="tiny isn't available"):
        datasets.load("tiny")
    with pytest.raises(DataNotFoundError, match="no such folder"):
        datasets.load("tiny", tmp_path / "none", named=False)


def test_a_damaged_dataset_is_never_replaced(tiny, tmp_path, monkeypatch):
    folder = tiny.put(tmp_path / "mine", gz=False)
    monkeypatch.setenv("FIVEBYFIVE_DATA", str(folder))
    (folder / "train-labels-idx1-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        datasets.load("tiny", named=False)


def test_what_was_passed_over_is_in_the_notice(tiny, places, tmp_path):
    (tiny.put(places / "tiny", gz=False) / "train-labels-idx1-ubyte").write_bytes(b"")
    tiny.put(tmp_path / "installed")
    assert "Passed over a damaged copy" in datasets.load("tiny").notice


def test_obtain_reports(tiny, make, tmp_path):
    tiny.put(tmp_path / "installed")
    report = datasets.obtain("tiny")
    assert (report.name, report.train, report.test) == ("tiny", 40, 20)
    assert report.shape == (1, 6, 5)
    assert report.folder == tmp_path / "installed"
    assert dict(report.digests) == {file.name: file.sha256 for file in tiny.entry.files}
    assert report.licence == "none"
    assert datasets.obtain(str(make(seed=2).put(tmp_path / "own"))).licence is None


def test_describe_lists_all_and_where_they_are(tiny, tmp_path):
    folder = tiny.put(tmp_path / "installed")
    listings = {listing.name: listing for listing in datasets.describe()}
    assert list(listings) == list(catalog.CATALOG)
    assert listings["tiny"].folder == folder
    assert list(listings["tiny"].places) == datasets.status("tiny") == locate.places(tiny.entry)


def test_import_brings_neither_torch_nor_numpy():
    code = """
import sys, fivebyfive.datasets as d
d.names(), d.describe()
print({'torch', 'numpy', 'pooch'} & sys.modules.keys() or "none")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"
