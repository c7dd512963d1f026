from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fivebyfive.lib.errors import RunError
from fivebyfive.runs import folder
from fivebyfive.runs.folder import check_free, create_run_dir


def test_runs_of_one_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def make(_: int) -> Path:
        with create_run_dir(None, "r") as path:
            return path

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(8)))
    assert len(set(made)) == 8
    assert all(path.parent == Path("runs") and path.is_dir() for path in made)


def test_an_empty_folder_may_be_used_a_full_one_not(tmp_path: Path) -> None:
    with create_run_dir(tmp_path / "a" / "b", "r") as made:
        assert made == tmp_path / "a" / "b"
    (tmp_path / "c").mkdir()
    with create_run_dir(tmp_path / "c", "r"):
        pass
    (tmp_path / "c" / "notes.txt").touch()
    with pytest.raises(RunError, match="isn't empty"), create_run_dir(tmp_path / "c", "r"):
        pass
    (tmp_path / "d").touch()
    with pytest.raises(RunError, match="is a file"), create_run_dir(tmp_path / "d", "r"):
        pass


def test_what_a_killed_start_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / ".run.json.0123456789ab.part").touch()
    with create_run_dir(tmp_path, "r"):
        assert sorted(p.name for p in tmp_path.iterdir()) == ["lock", "lock.json"]


def test_a_folder_with_a_run_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    with pytest.raises(RunError, match=f"fivebyfive train --resume {tmp_path}"):
        check_free(tmp_path)


def test_where_no_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="can't write the run folder"), create_run_dir(None, "r"):
        pass
    assert os.listdir() == ["runs"]  # noqa: PTH208


def test_a_full_disk_is_told_with_the_bytes_needed(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    message = str(folder.unwritable(tmp_path / "x", full, 1234567))
    assert f"can't write {tmp_path / 'x'}: No space left on device" in message
    assert "1,234,567 bytes are needed" in message
    assert "go on by --resume" in message
    broken = OSError(errno.EIO, os.strerror(errno.EIO))
    assert "needed" not in str(folder.unwritable(tmp_path / "x", broken, 7))


def test_the_command_can_be_typed_as_it_stands(tmp_path: Path) -> None:
    command = folder.resume_command(Path("my run"), "a b.py:Net", Path("my data"))
    assert command == "fivebyfive train 'a b.py:Net' --resume 'my run' --data 'my data'"


@pytest.mark.parametrize("name", ["lock", "metrics.jsonl", "checkpoints"])
def test_a_run_folder_with_links_in_it_is_refused(tmp_path: Path, name: str) -> None:
    folder.check_plain(tmp_path)
    (tmp_path / name).symlink_to(tmp_path)
    with pytest.raises(RunError, match=f"{name} is a link"):
        folder.check_plain(tmp_path)


def test_a_temporary_file_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".song.mp3.part").touch()
    with pytest.raises(RunError, match="isn't empty"), create_run_dir(tmp_path, "r"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".song.mp3.part"]
