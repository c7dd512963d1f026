import gzip
import os

import pytest

from fivebyfive.datasets import catalog, fetch, idx, locate, search
from fivebyfive.datasets.folder import NAMES
from fivebyfive.lib.errors import DataError, DataNotFoundError


def spoil(folder, name=NAMES[0]):
    """Change one byte of one file's content."""
    path = folder / f"{name}.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(content))
    return path


@pytest.fixture
def mirror(tiny, monkeypatch):
    """Stands in for the download; counts how often it was asked for."""
    asked = []

    def put(entry, folder, deadline=0.0):
        asked.append(entry.name)
        tiny.put(folder)

    monkeypatch.setattr(fetch, "fetch", put)
    return asked


def test_the_first_place_wins(tiny, tmp_path, places, monkeypatch):
    order = [tmp_path / "mine", places / "tiny", tmp_path / "installed"]
    monkeypatch.setenv("FIVEBYFIVE_DATA", str(order[0]))
    for folder in order:
        tiny.put(folder)
    for folder in order:
        found = search.named(tiny.entry)
        assert found.arrays.folder == folder
        assert str(folder) in found.source
        assert (found.name, found.classes, found.notes) == ("tiny", ("a", "b", "c", "d"), ())
        for file in folder.iterdir():
            file.unlink()


@pytest.mark.parametrize("verify", [False, True])
def test_places_that_cant_be_looked_into_are_passed_over(tiny, tmp_path, monkeypatch, verify):
    """As another user's home folder can't; a name too long is refused to root as well."""
    shut = tmp_path / ("x" * 300)
    monkeypatch.setenv("FIVEBYFIVE_CACHE", str(shut / "cache"))
    monkeypatch.setenv("FIVEBYFIVE_DATA", str(shut / "data"))
    folder = tiny.put(tmp_path / "installed")
    assert search.named(tiny.entry, verify=verify).arrays.folder == folder
    assert search.in_folder(folder).arrays.folder == folder
    with pytest.raises(DataError, match="no dataset in"):
        search.in_folder(shut)
    with pytest.raises(DataError):
        idx.read(shut / NAMES[0], "images")


def test_what_is_nowhere_is_downloaded(tiny, places, mirror):
    found = search.named(tiny.entry)
    assert found.source == f"downloaded to {places / 'tiny'}"
    assert search.named(tiny.entry).source == f"the cache, {places / 'tiny'}"
    assert mirror == ["tiny"]


def test_when_nothing_helps_everything_is_told(tiny, tmp_path, places, monkeypatch):
    monkeypatch.setenv("FIVEBYFIVE_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("FIVEBYFIVE_MIRROR", "nonsense")
    with pytest.raises(DataNotFoundError) as error:
        search.named(tiny.entry)
    for part in (
        f"$FIVEBYFIVE_DATA, {tmp_path / 'mine'}: no such folder",
        f"the cache, {places}: no such folder",
        f"installed, {tmp_path / 'installed'}: no such folder",
        f"nonsense/tiny/{NAMES[0]}.gz: expected an address that starts with https://",
        f"http://127.0.0.1:9/tiny/{NAMES[0]}.gz: ",
        "set FIVEBYFIVE_MIRROR",
        "--data FOLDER",
        "sudo apt install dataset-tiny",
        "--data sample",
    ):
        assert part in str(error.value)


def test_where_no_sample_stands_in_it_is_offered_for_a_first_try(monkeypatch):
    monkeypatch.delenv("FIVEBYFIVE_DATA", raising=False)
    with pytest.raises(DataNotFoundError, match=r"--data sample .*there is none of mnist"):
        search.named(catalog.MNIST, download=False)


def test_a_sample_that_is_gone_is_no_matter_of_mirrors(monkeypatch):
    monkeypatch.setattr(locate, "places", lambda _: [])
    with pytest.raises(DataNotFoundError, match="install fivebyfive again") as error:
        search.named(catalog.SAMPLE)
    assert "MIRROR" not in str(error.value)


def test_no_download_unless_allowed(tiny, mirror):
    with pytest.raises(DataNotFoundError, match=r"not tried, as asked .*FIVEBYFIVE_OFFLINE"):
        search.named(tiny.entry, download=False)
    assert mirror == []


def test_a_damaged_cache_is_fetched_again(tiny, places, mirror):
    spoil(tiny.put(places / "tiny"))
    found = search.named(tiny.entry)
    assert found.source.startswith("downloaded")
    assert mirror == ["tiny"]
    assert "Passed over" not in str(found.notes)


def test_a_damaged_system_copy_is_passed_over_with_a_note(tiny, tmp_path, mirror):
    path = spoil(tiny.put(tmp_path / "installed"))
    search.named(tiny.entry)
    os.truncate(path, 50)
    assert search.named(tiny.entry).notes == ()  # the cache comes first


def test_a_damaged_cache_is_told_of_when_a_later_place_is_used(tiny, tmp_path, places, mirror):
    path = spoil(tiny.put(places / "tiny"))
    tiny.put(tmp_path / "installed")
    found = search.named(tiny.entry)
    assert mirror == []
    assert found.source == str(tmp_path / "installed")
    assert str(path) in found.notes[0]
    assert "expected" in found.notes[0]


@pytest.mark.parametrize("sub", [".", "tiny"])
def test_a_damaged_file_in_the_users_folder_is_an_error(tiny, tmp_path, monkeypatch, mirror, sub):
    root = tmp_path / "mine"
    path = spoil(tiny.put(root / sub))
    monkeypatch.setenv("FIVEBYFIVE_DATA", str(root))
    wanted = f"{path}: not the {NAMES[0]} of tiny.*SHA-256 [0-9a-f]{{64}}, expected"
    with pytest.raises(DataError, match=wanted):
        search.named(tiny.entry)
    with pytest.raises(DataError, match=wanted):
        search.in_folder(root, tiny.entry)
    assert mirror == []


def test_the_users_folder_may_hold_another_dataset(tiny, make, tmp_path, monkeypatch, mirror):
    other = make("other", seed=1).put(tmp_path / "mine")
    monkeypatch.setenv("FIVEBYFIVE_DATA", str(other))
    assert search.named(tiny.entry).source.startswith("downloaded")
    own = make("other", seed=1).put(other / "tiny")
    with pytest.raises(DataError, match="not the train-images-idx3-ubyte of tiny"):
        search.named(tiny.entry)
    with pytest.raises(DataError, match="not the train-images-idx3-ubyte of tiny"):
        search.in_folder(other, tiny.entry)
    assert own.is_dir()


def test_a_folder_is_known_by_its_content(tiny, make, tmp_path):
    folder = tiny.put(tmp_path / "whatever", gz=False)
    for entry in (None, catalog.MNIST):
        found = search.in_folder(folder, entry)
        assert (found.name, found.entry) == ("tiny", tiny.entry)
    own = search.in_folder(make(seed=1).put(tmp_path / "mine"), tiny.entry)
    assert (own.name, own.entry, own.classes) == ("mine", None, ("0", "1", "2", "3"))


def test_a_folder_without_data_is_told(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"no dataset in .*no IDX files .*with or without"):
        search.in_folder(tmp_path)
    with pytest.raises(DataNotFoundError, match="no such folder"):
        search.in_folder(tmp_path / "none")


def test_what_has_no_mirror_says_so(tiny, make):
    with pytest.raises(DataNotFoundError, match="no place to download it from"):
        search.named(make(mirrors=()).entry)
