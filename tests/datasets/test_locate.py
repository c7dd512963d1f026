from pathlib import Path

import pytest

from fivebyfive.datasets import catalog, locate
from fivebyfive.lib.errors import DataError


def test_the_order_of_places(tiny, tmp_path, places, monkeypatch):
    monkeypatch.setenv("FIVEBYFIVE_DATA", str(tmp_path / "mine"))
    looked = locate.places(tiny.entry)
    assert [place.kind for place in looked] == ["environment", "cache", "installed"]
    assert [place.root for place in looked] == [
        tmp_path / "mine",
        places,
        tmp_path / "installed",
    ]
    assert all(place.folder is None and "no such folder" in str(place) for place in looked)


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("sub", [".", "tiny", "Tiny/raw"])
def test_layouts(tiny, tmp_path, sub, gz):
    folder = tiny.put(tmp_path / sub, gz=gz)
    place = locate.look("given", tmp_path, tiny.entry.folders)
    assert place.folder == folder
    assert place.direct == (sub == ".")
    assert str(place) == f"the folder given, {folder}: found"


def test_a_folder_of_its_own_comes_before_loose_files(tiny, tmp_path):
    tiny.put(tmp_path)
    own = tiny.put(tmp_path / "tiny")
    assert locate.look("given", tmp_path, tiny.entry.folders).folder == own


def test_what_is_lacking_is_told(tiny, tmp_path):
    folder = tiny.put(tmp_path / "tiny")
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    place = locate.look("given", tmp_path, tiny.entry.folders)
    assert place.folder is None
    assert place.note == f"{folder} lacks t10k-images-idx3-ubyte"


def test_an_empty_folder_and_a_file_are_told(tmp_path):
    assert "no IDX files in it, nor in its a/" in str(locate.look("cache", tmp_path, ("a",)))
    path = tmp_path / "file"
    path.touch()
    assert locate.look("cache", path, ()).note == "not a folder"


def test_a_folder_that_cant_be_read_is_told(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(locate, "missing", refuse)
    assert "can't be read: Permission denied" in locate.look("cache", tmp_path, ()).note


def test_the_cache_is_the_users_unless_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("FIVEBYFIVE_CACHE", "~/somewhere")
    assert locate.cache() == Path("~/somewhere").expanduser()
    monkeypatch.delenv("FIVEBYFIVE_CACHE")
    assert "fivebyfive" in locate.cache().parts


def test_the_sample_is_only_where_it_ships(monkeypatch, tmp_path):
    monkeypatch.setenv("FIVEBYFIVE_DATA", str(tmp_path))
    (place,) = locate.places(catalog.SAMPLE)
    assert place.kind == "installed"
    assert place.folder


def test_a_home_folder_that_nobody_knows(tiny, monkeypatch):
    for name in ("FIVEBYFIVE_DATA", "FIVEBYFIVE_CACHE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "~nobody of that name/data")
            with pytest.raises(DataError, match="no such home folder; write the path without"):
                locate.places(tiny.entry)
