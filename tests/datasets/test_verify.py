"""``fivebyfive data NAME --verify``: every copy is read in full, and the cache's is repaired."""

import dataclasses
import gzip
import json
import os

import pytest

from fivebyfive import cli, datasets
from fivebyfive.datasets import catalog
from fivebyfive.datasets.folder import NAMES
from fivebyfive.lib.errors import DataError, DataNotFoundError

from .mirror import serving


def flip(path, *, unseen=False):
    """Change one bit of an archive; ``unseen`` as a disk does it, without a new time."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-8] ^= 8  # of its checksum
    path.write_bytes(content)
    if unseen:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture
def tiny(make, monkeypatch):
    """Large enough that the start of an archive doesn't give away what is wrong with its end."""
    tiny = make(mirrors=("http://127.0.0.1:9/tiny",), train=2000, test=1000)
    monkeypatch.setitem(catalog.CATALOG, "tiny", tiny.entry)
    return tiny


@pytest.fixture
def served(tiny, monkeypatch):
    """The tiny dataset with a mirror that works."""
    monkeypatch.delenv("FIVEBYFIVE_OFFLINE")
    with serving(tiny.archives) as server:
        entry = dataclasses.replace(tiny.entry, mirrors=(f"{server.url}/good",))
        monkeypatch.setitem(catalog.CATALOG, "tiny", entry)
        yield server


def test_it_says_what_it_checked(tiny, served, places, tmp_path, capsys):
    folders = [tiny.put(places / "tiny"), tiny.put(tmp_path / "installed", gz=False)]
    report = datasets.obtain("tiny", verify=True)
    assert [file.path.parent for file in report.checked] == [folders[0]] * 4 + [folders[1]] * 4
    for file, name in zip(report.checked, NAMES * 2, strict=True):
        assert file.size == file.path.stat().st_size
        assert file.sha256 == report.digests[name]
    assert report.folder == folders[0]
    assert report.notes == ()
    assert served.asked == []

    assert cli.main(["data", "tiny", "--verify"]) == 0
    out = capsys.readouterr().out
    for file in report.checked:
        assert f"ok       {file.path}: {file.size:,} bytes, content SHA-256 {file.sha256}" in out
    assert cli.main(["data", "tiny", "--verify", "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)["checked"]
    assert [file["path"] for file in checked] == [str(file.path) for file in report.checked]


def test_without_it_only_the_copy_in_use_is_checked(tiny, places, tmp_path):
    tiny.put(places / "tiny")
    tiny.put(tmp_path / "installed")
    assert {file.path.parent for file in datasets.obtain("tiny").checked} == {places / "tiny"}


def test_a_rotten_archive_in_the_cache_is_found_and_repaired(tiny, served, places):
    """Its size, time and inode are as before, so that an ordinary start goes by its copy."""
    archive = tiny.put(places / "tiny") / f"{NAMES[0]}.gz"
    datasets.obtain("tiny")
    flip(archive, unseen=True)
    right = {file.name: file.sha256 for file in tiny.entry.files}
    assert datasets.obtain("tiny").digests == right
    assert served.asked == []
    report = datasets.obtain("tiny", verify=True)
    assert report.digests == right
    assert report.notes == (f"Downloaded, as it was missing or damaged: {archive}",)
    assert served.asked == [("good", NAMES[0])]
    assert archive.read_bytes() == tiny.archives[NAMES[0]]


@pytest.mark.parametrize("damage", [flip, os.remove])
def test_the_cache_is_repaired_though_another_copy_is_right(
    tiny, served, places, tmp_path, capsys, damage
):
    archive = tiny.put(places / "tiny") / f"{NAMES[2]}.gz"
    tiny.put(tmp_path / "installed")
    damage(archive)
    assert cli.main(["data", "tiny", "--verify"]) == 0
    out = capsys.readouterr().out
    assert ("Passed over a damaged copy" in out) == (damage is flip)
    assert f"Downloaded, as it was missing or damaged: {archive}" in out
    assert f"from     {tmp_path / 'installed'}" in out
    assert archive.read_bytes() == tiny.archives[NAMES[2]]


def test_nothing_is_downloaded_beside_a_right_copy(tiny, served, places, tmp_path):
    tiny.put(tmp_path / "installed")
    assert datasets.obtain("tiny", verify=True).notes == ()
    assert served.asked == []
    assert not (places / "tiny").exists()


def test_what_cant_be_repaired_is_told(tiny, places, tmp_path, monkeypatch, capsys):
    """The mirror can't be reached."""
    monkeypatch.delenv("FIVEBYFIVE_OFFLINE")
    flip(tiny.put(places / "tiny") / f"{NAMES[0]}.gz")
    with pytest.raises(DataNotFoundError, match=r"the cache.*gzip stream is corrupt"):
        datasets.obtain("tiny", verify=True)
    assert cli.main(["data", "tiny", "--verify"]) == 2
    assert "127.0.0.1:9" in capsys.readouterr().err
    tiny.put(tmp_path / "installed")
    passed, failed = datasets.obtain("tiny", verify=True).notes
    assert "Passed over a damaged copy" in passed
    assert "couldn't be repaired. The download failed" in failed


def test_a_damaged_file_of_the_users_is_an_error(tiny, served, tmp_path, monkeypatch, capsys):
    archive = tiny.put(tmp_path / "mine") / f"{NAMES[0]}.gz"
    monkeypatch.setenv("FIVEBYFIVE_DATA", str(tmp_path / "mine"))
    datasets.obtain("tiny")
    flip(archive, unseen=True)
    before = archive.read_bytes()
    for words in (["tiny"], ["tiny", "--data", tmp_path / "mine"], [tmp_path / "mine"]):
        assert cli.main(["data", *map(str, words), "--verify"]) == 2
        assert f"{archive}: the gzip stream is corrupt" in capsys.readouterr().err
    assert archive.read_bytes() == before
    assert served.asked == []


def test_a_damaged_system_copy_is_noted(tiny, served, places, tmp_path):
    tiny.put(places / "tiny")
    archive = tiny.put(tmp_path / "installed") / f"{NAMES[3]}.gz"
    archive.write_bytes(gzip.compress(b"something else"))
    report = datasets.obtain("tiny", verify=True)
    assert {file.path.parent for file in report.checked} == {places / "tiny"}
    (note,) = report.notes
    assert f"Passed over a damaged copy: {archive}" in note


def test_an_unpacked_copy_is_made_anew(tiny, served, places):
    tiny.put(places / "tiny")
    datasets.obtain("tiny")
    copy = places / "unpacked" / tiny.entry.files[0].sha256
    copy.write_bytes(b"")
    datasets.obtain("tiny", verify=True)
    assert copy.read_bytes() == tiny.contents[NAMES[0]]


def test_it_wants_a_name(capsys):
    assert cli.main(["data", "--verify"]) == 2
    assert "fivebyfive data NAME --verify" in capsys.readouterr().err


def test_data_of_your_own_can_be_verified(make, tmp_path):
    report = datasets.obtain(str(make(seed=5).put(tmp_path / "mine")), verify=True)
    assert len(report.checked) == 4
    (tmp_path / "mine" / f"{NAMES[1]}.gz").write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        datasets.obtain(str(tmp_path / "mine"), verify=True)
