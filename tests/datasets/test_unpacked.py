import gzip
import json
import os
import time

import pytest

from fivebyfive.datasets import arrays, idx, locate, search, unpacked
from fivebyfive.datasets.folder import NAMES
from fivebyfive.lib.errors import DataError


@pytest.fixture
def folder(tiny, tmp_path):
    return tiny.put(tmp_path / "installed")


@pytest.fixture
def kept(places):
    return places / "unpacked"


@pytest.fixture
def opened(monkeypatch):
    """The files whose content is read, in order."""
    names = []
    read = idx.read

    def watched(path, *rest):
        names.append(path.name)
        return read(path, *rest)

    monkeypatch.setattr(idx, "read", watched)
    return names


ARCHIVES = [f"{name}.gz" for name in NAMES]


def test_the_second_start_unpacks_nothing(tiny, folder, kept, opened):
    first = arrays.read(folder)
    assert opened == ARCHIVES
    opened.clear()
    second = arrays.read(folder)
    copies = [file.sha256 for file in tiny.entry.files]
    assert opened == copies
    assert sorted(path.name for path in kept.iterdir()) == sorted([*copies, "archives.json"])
    for name, copy in zip(NAMES, copies, strict=True):
        assert (kept / copy).read_bytes() == tiny.contents[name]
    assert second.digests == first.digests
    assert second.files == first.files
    assert second.train_images.tobytes() == first.train_images.tobytes()
    assert second.train_images.flags.writeable


def touched(path):
    os.utime(path, ns=(0, 0))


def enlarged(path):
    """The same content in an archive of another size, with the same time."""
    status = path.stat()
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 0))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(path):
    """Another file of the same size and time."""
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [touched, enlarged, replaced])
def test_an_archive_that_changed_is_read_again(folder, opened, change):
    arrays.read(folder)
    opened.clear()
    change(folder / ARCHIVES[2])
    arrays.read(folder)
    assert [name for name in opened if name in ARCHIVES] == [ARCHIVES[2]]
    opened.clear()
    arrays.read(folder)
    assert not set(opened) & set(ARCHIVES)


def test_another_archive_under_the_name_is_never_taken_for_the_old_one(tiny, make, folder):
    arrays.read(folder)
    other = make(seed=1)
    other.put(folder)
    assert arrays.read(folder).digests == {f.name: f.sha256 for f in other.entry.files}


def test_fresh_reads_the_archives_and_makes_the_copies_anew(tiny, folder, kept, opened):
    arrays.read(folder)
    copy = kept / tiny.entry.files[0].sha256
    copy.write_bytes(b"")
    opened.clear()
    arrays.read(folder, fresh=True)
    assert opened == ARCHIVES
    assert copy.read_bytes() == tiny.contents[NAMES[0]]


@pytest.mark.parametrize("damage", [b"", b"<html>", None])
def test_a_damaged_copy_is_passed_over_and_mended(tiny, folder, kept, damage):
    arrays.read(folder)
    copy = kept / tiny.entry.files[0].sha256
    if damage is None:
        content = bytearray(copy.read_bytes())
        content[-1] ^= 1
        damage = bytes(content)
    copy.write_bytes(damage)
    assert arrays.read(folder).train_images.tobytes() == tiny.contents[NAMES[0]][16:]
    assert copy.read_bytes() == tiny.contents[NAMES[0]]


NOTE = {"size": 1, "mtime_ns": 1, "inode": 1, "sha256": "../../etc/passwd"}
NOTES = {
    "empty": b"",
    "garbage": b"\xff\xfe\0garbage",
    "a list": b"[1, 2]",
    "deep": b"[" * 200_000,
    "long": b" " * (8 << 20) + b"{}",
    "lone surrogate": b'{"\\ud800": 1}',
    "not a number": b'{"a": NaN}',
    "huge number": b'{"a": ' + b"9" * 100_000 + b"}",
}


@pytest.mark.parametrize("case", NOTES)
def test_whatever_stands_in_the_notes_the_data_is_right(tiny, folder, kept, case):
    kept.mkdir(parents=True)
    (kept / "archives.json").write_bytes(NOTES[case])
    for _ in range(2):
        assert arrays.read(folder).digests == {f.name: f.sha256 for f in tiny.entry.files}


@pytest.mark.parametrize("note", [None, 1, "x", [], {}, NOTE, {**NOTE, "sha256": []}])
def test_whatever_a_note_says_the_data_is_right(tiny, folder, kept, note):
    kept.mkdir(parents=True)
    notes = {str(folder / name): note for name in ARCHIVES}
    (kept / "archives.json").write_text(json.dumps(notes))
    assert arrays.read(folder).digests == {f.name: f.sha256 for f in tiny.entry.files}
    assert set(json.loads((kept / "archives.json").read_text())) == set(notes)


def test_a_note_about_another_file_of_the_dataset_is_no_harm(tiny, folder, kept):
    """Somebody who can write the cache says that the labels are the images, and so on."""
    arrays.read(folder)
    notes = json.loads((kept / "archives.json").read_text())
    for note, file in zip(notes.values(), reversed(tiny.entry.files), strict=True):
        note["sha256"] = file.sha256
    (kept / "archives.json").write_text(json.dumps(notes))
    found = search.named(tiny.entry)
    assert found.arrays.digests == {f.name: f.sha256 for f in tiny.entry.files}


@pytest.mark.parametrize("make_odd", ["mkdir", "mkfifo"])
def test_odd_things_in_the_places_of_notes_and_copies_are_no_harm(tiny, folder, kept, make_odd):
    kept.mkdir(parents=True)
    for name in ("archives.json", tiny.entry.files[0].sha256):
        getattr(os, make_odd)(kept / name)
    for _ in range(2):
        assert arrays.read(folder).digests == {f.name: f.sha256 for f in tiny.entry.files}


def test_a_cache_that_cant_be_written_is_no_harm(tiny, folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FIVEBYFIVE_CACHE", str(tmp_path / "file" / "below"))
    for _ in range(2):
        assert arrays.read(folder).digests == {f.name: f.sha256 for f in tiny.entry.files}
    assert [path.name for path in tmp_path.iterdir() if path.name == "file"] == ["file"]


def test_only_archives_of_named_datasets_are_kept(tiny, make, tmp_path, places):
    arrays.read(make(seed=1).put(tmp_path / "mine"))
    arrays.read(tiny.put(tmp_path / "plain", gz=False))
    search.named(search.CATALOG["sample"])
    kept = {path.name for path in (places / "unpacked").iterdir()}
    # The labels of both are the same.
    labels = {tiny.entry.files[1].sha256, tiny.entry.files[3].sha256}
    assert kept == {*labels, "archives.json"}


def test_notes_dont_grow_without_end(tiny, tmp_path, kept, monkeypatch):
    monkeypatch.setattr(unpacked, "_MOST", 6)
    for number in range(3):
        arrays.read(tiny.put(tmp_path / str(number)))
    notes = list(json.loads((kept / "archives.json").read_text()))
    assert notes == [str(tmp_path / "1" / a) for a in ARCHIVES[2:]] + [
        str(tmp_path / "2" / a) for a in ARCHIVES
    ]


def test_what_killed_processes_left_is_swept_when_it_is_old(tiny, folder, places):
    old, young = [], []
    for below in (places / "unpacked", places / "tiny"):
        below.mkdir(parents=True)
        old += [below / f".{name}.0123456789ab.part" for name in "ab"]
        young += [below / ".c.0123456789ab.part", below / "kept.part"]
    for path in (*old, *young):
        path.write_bytes(b"half of a fi")
    for path in (*old, *(path for path in young if not path.name.startswith("."))):
        os.utime(path, (0, time.time() - locate.IDLE - 60))
    search.named(tiny.entry)
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in young)


def test_a_wrong_archive_stays_an_error_however_often_it_is_read(tiny, folder):
    arrays.read(folder)
    path = folder / ARCHIVES[0]
    os.truncate(path, path.stat().st_size - 1)
    for _ in range(3):
        with pytest.raises(DataError, match="truncated"):
            arrays.read(folder)
