"""What may be another when a run is resumed: told, allowed if asked for, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fivebyfive.lib.errors import DataError, DeviceError, NetworkError, RecipeError

from .conftest import Train, files_of, fingerprint, resume


def test_more_epochs_if_asked_for_by_name(train: Train, tiny_folder: Path) -> None:
    longer = train(name="longer", epochs=4)
    whole = train(name="whole", epochs=3)
    with pytest.raises(RecipeError, match=r"epochs is 3 there, 4 here.*--allow-change recipe"):
        resume(whole, tiny_folder, epochs=4)
    done = resume(whole, tiny_folder, epochs=4, allow=["recipe"])
    assert (done.path / "model.safetensors").read_bytes() == (
        longer.path / "model.safetensors"
    ).read_bytes()
    assert "won't be bit for bit" in done.info["resumed"][0]["notes"][0]
    assert done.recipe.epochs == 4


@pytest.mark.parametrize(
    ("cut", "change", "least"),
    [(6, {"epochs": 1}, 2), (None, {"epochs": 2}, 4), (None, {"lr": 0.01}, 4)],
)
def test_a_change_that_leaves_nothing_to_train(
    train: Train, tiny_folder: Path, cut: int | None, change: dict[str, Any], least: int
) -> None:
    """The run would say of itself what it wasn't trained with."""
    run = train(cut=cut)
    before = files_of(run.path)
    with pytest.raises(RecipeError, match=rf"nothing left to train.*--epochs {least} or more"):
        resume(run, tiny_folder, allow=["recipe"], **change)
    assert files_of(run.path) == before


@pytest.mark.parametrize("setting", [{"batch_size": 8}, {"seed": 3}, {"optimizer": "adam"}])
def test_what_can_never_change(train: Train, tiny_folder: Path, setting: dict[str, Any]) -> None:
    broken = train(cut=2)
    with pytest.raises(RecipeError, match="can't change in the middle of a run"):
        resume(broken, tiny_folder, allow=["recipe"], **setting)


def test_an_edited_run_json_is_refused(train: Train, tiny_folder: Path) -> None:
    broken = train(cut=2)
    info = json.loads((broken.path / "run.json").read_text())
    info["recipe"]["lr"] = 0.01
    (broken.path / "run.json").write_text(json.dumps(info))
    with pytest.raises(RecipeError, match=r"disagree: lr is 0\.05 there, 0\.01 here"):
        resume(broken, tiny_folder)
    assert resume(broken, tiny_folder, allow=["recipe"]).recipe.lr == 0.01


def test_other_data_is_refused(train: Train, tiny_folder: Path) -> None:
    broken = train(cut=2)
    labels = tiny_folder / "t10k-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[-1] = (content[-1] + 1) % 3
    labels.write_bytes(content)
    with pytest.raises(DataError, match="other content in t10k-labels-idx1-ubyte"):
        resume(broken, tiny_folder)
    done = resume(broken, tiny_folder, allow=["data"])
    assert "the data changed" in done.info["resumed"][0]["notes"][0]


def test_what_changes_the_last_bits_is_told(
    train: Train, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = train(cut=2, engine="eager")
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    done = resume(broken, tiny_folder, engine="cpu")
    (note,) = done.info["resumed"][0]["notes"]
    assert "the version of PyTorch changed from" in note
    assert "to 9.9.9" in note
    assert "the engine changed from eager to cpu" in note


def test_a_device_that_isnt_here_any_more(train: Train, tiny_folder: Path) -> None:
    broken = train(cut=2)
    info = json.loads((broken.path / "run.json").read_text())
    info["device"] = "cuda:7"
    (broken.path / "run.json").write_text(json.dumps(info))
    assert resume(broken, tiny_folder).info["device"] == "cpu"
    with pytest.raises(DeviceError, match="'cuda:7'"):
        resume(train(name="other", cut=2), tiny_folder, device="cuda:7")


def test_metrics_that_were_touched_are_told(train: Train, tiny_folder: Path) -> None:
    broken = train(cut=6)
    rows = (broken.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (broken.path / "metrics.jsonl").write_bytes(rows[0] + rows[1][:-5])
    done = resume(broken, tiny_folder)
    assert "metrics.jsonl isn't as it was" in done.info["resumed"][0]["notes"][0]
    assert done.metrics()[0] == json.loads(rows[0])


def test_a_module_of_the_callers(train: Train, tiny_folder: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(784, 3))

    torch.manual_seed(1)
    first = build()
    start = {name: value.clone() for name, value in first.state_dict().items()}
    broken = train(first, "broken", cut=5, seed=2)
    second = build()
    second.load_state_dict(start)
    whole = train(second, "whole", seed=2)
    with pytest.raises(NetworkError, match="no code is run because a run folder names it"):
        resume(broken, tiny_folder)
    done = resume(broken, tiny_folder, network=build())
    assert fingerprint(done.path) == fingerprint(whole.path)


def test_a_network_in_a_file_is_run_only_if_named(
    train: Train, tiny_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n\n"
        "def net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 3))\n"
    )
    whole = train(f"{file}:net", "whole")
    broken = train(f"{file}:net", "broken", cut=3)
    with pytest.raises(NetworkError, match="no code is run because a run folder names it"):
        resume(broken, tiny_folder)
    shutil.rmtree(broken.path / "checkpoints")
    done = resume(broken, tiny_folder, network=f"{file}:net")
    assert fingerprint(done.path) == fingerprint(whole.path)
