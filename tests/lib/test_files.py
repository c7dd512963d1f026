from __future__ import annotations

import errno
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fivebyfive.lib import files
from fivebyfive.lib.files import replacing, write_bytes, write_json


def test_writes_the_whole_content(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"one")
    write_bytes(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half of the ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_files_can_be_read_by_others_as_the_umask_says(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_json_is_strict(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"größe": 1.5})
    assert json.loads((tmp_path / "a").read_text(encoding="utf-8")) == {"größe": 1.5}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b", float("nan"))
    assert not (tmp_path / "b").exists()


def test_a_new_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "f") as temporary:
        (temporary / "a").write_text("1")
        assert not (tmp_path / "f").exists()
    assert (tmp_path / "f" / "a").read_text() == "1"

    def fail() -> None:
        with files.new_folder(tmp_path / "g") as temporary:
            (temporary / "a").write_text("1")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    with pytest.raises(OSError, match="not empty"), files.new_folder(tmp_path / "f") as temporary:
        (temporary / "b").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_of_many_that_create_one_file_one_does(tmp_path: Path) -> None:
    def create(value: int) -> bool:
        try:
            files.create_json(tmp_path / "x.json", value)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1
    assert files.read_json(tmp_path / "x.json") in range(8)
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", none)
    files.create_json(tmp_path / "x.json", 1)
    with pytest.raises(FileExistsError):
        files.create_json(tmp_path / "x.json", 2)
    assert files.read_json(tmp_path / "x.json") == 1


def test_a_sweep_takes_what_killed_writers_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".a.0123456789ab.part").touch()
    (tmp_path / ".f.0123456789ab.part").mkdir()
    (tmp_path / ".f.0123456789ab.part" / "a").touch()
    (tmp_path / "kept.part").touch()
    (tmp_path / ".song.mp3.part").touch()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b").touch()
    (tmp_path / ".link.0123456789ab.part").symlink_to(outside)
    files.sweep(tmp_path)
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == [".song.mp3.part", "kept.part", "outside"]
    assert (outside / "b").exists()


def test_removing_a_folder(tmp_path: Path) -> None:
    (tmp_path / "f" / "g").mkdir(parents=True)
    files.remove_folder(tmp_path / "f")
    files.remove_folder(tmp_path / "none")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"{", "Expecting"), (b"\xff", "decode"), (b"[" * 100_000, "deep"), (bytes(5 << 20), "more")],
)
def test_json_from_anyone(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        files.read_json(tmp_path / "x.json")


def test_a_sweep_of_what_cant_be_looked_into(tmp_path: Path) -> None:
    files.sweep(tmp_path / "none")
    files.sweep(tmp_path / ("x" * 300))  # an error for root, too, where a mode wouldn't be
    assert list(tmp_path.iterdir()) == []


def test_a_path_whose_bytes_are_no_utf8_comes_back(tmp_path: Path) -> None:
    path = os.fsdecode(b"run \xff")
    write_json(tmp_path / "a", {path: [path, "größe"]})
    assert (tmp_path / "a").read_text(encoding="utf-8")
    assert files.read_json(tmp_path / "a") == {path: [path, "größe"]}


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The inodes of what was flushed."""
    seen: list[int] = []

    def flush(descriptor: int) -> None:
        seen.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", flush)
    return seen


def test_a_path_is_told_as_one_would_type_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert files.from_here(tmp_path / "a" / "b") == Path("a/b")
    assert files.from_here(tmp_path.parent) == tmp_path.parent
    assert files.from_here(Path("a")) == Path("a")


def test_new_folders_are_made_to_last(tmp_path: Path, flushed: list[int]) -> None:
    for _ in range(2):
        files.make_folder(tmp_path / "a" / "b")
    assert sorted(flushed) == sorted([tmp_path.stat().st_ino, (tmp_path / "a").stat().st_ino])
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        files.make_folder(tmp_path / "file")


@pytest.mark.parametrize(("number", "harmless"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_file_system_that_doesnt_flush_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, harmless: bool
) -> None:
    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    if not harmless:
        with pytest.raises(OSError, match="Input/output"):
            write_bytes(tmp_path / "a", b"one")
        return
    write_bytes(tmp_path / "a", b"one")
    with files.new_folder(tmp_path / "f") as temporary:
        (temporary / "b").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "f"]
