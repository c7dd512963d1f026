from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fivebyfive.lib.errors import RunError
from fivebyfive.runs.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from fivebyfive.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_refused_and_told_who_is_first_until_that_one_is_killed(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        begin = time.monotonic()
        with pytest.raises(RunError, match=f"process {holder.pid} on "), locked(tmp_path):
            pass
        assert time.monotonic() - begin < 1
        holder.kill()
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": "x"}', '{"pid": 1}'])
def test_a_holder_nobody_knows(tmp_path: Path, content: str) -> None:
    with locked(tmp_path):
        (tmp_path / "lock.json").write_text(content)
        with pytest.raises(RunError, match="by another process"), locked(tmp_path):
            pass


def test_a_folder_that_isnt_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="can't write"), locked(tmp_path / "file"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_it_goes_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def none(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path):
        assert (tmp_path / "lock.json").exists()
