from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from fivebyfive import runs
from fivebyfive.errors import RunError


def test_of_many_that_want_one_folder_one_gets_it(tmp_path: Path) -> None:
    def claim(_: int) -> bool:
        try:
            runs.create(tmp_path / "r")
        except RunError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1


def test_runs_of_one_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: runs.create_default("r"), range(8)))
    assert len(set(made)) == 8
    assert all(path.parent == Path("runs") and (path / "run.json").is_file() for path in made)


def test_an_empty_folder_may_be_used_a_full_one_not(tmp_path: Path) -> None:
    assert runs.create(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    (tmp_path / "c").mkdir()
    runs.create(tmp_path / "c")
    with pytest.raises(RunError, match="isn't empty"):
        runs.create(tmp_path / "c")


def test_where_no_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="can't write the run folder"):
        runs.create_default("r")
    assert os.listdir() == ["runs"]  # noqa: PTH208


def test_weights_that_cant_be_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="can't write the weights to"):
        runs.save_weights(nn.Linear(2, 2), tmp_path / "none" / "model.safetensors")
    shared = nn.ParameterList([nn.Parameter(t) for t in torch.zeros(4).split(2)])
    with pytest.raises(RunError, match="can't write the weights to"):
        runs.save_weights(shared, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_info_that_cant_be_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"can't write .*run\.json"):
        runs.write_info(tmp_path / "none", {})
