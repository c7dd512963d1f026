from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fivebyfive as fbf
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.work import Tally
from fivebyfive.errors import (
    DataError,
    DeviceError,
    DivergedError,
    NetworkError,
    RecipeError,
    RunError,
    UnknownNameError,
)
from fivebyfive.runs import checkpoints
from fivebyfive.training import loop
from fivebyfive.training.stopping import Interrupted

from .conftest import CutAfter, fingerprint

Train = Callable[..., fbf.Run]


@pytest.fixture(autouse=True)
def step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stretch is one step long, so that a run can be cut after any."""

    class One:
        steps = 1

        def took(self, steps: int, seconds: float) -> None:
            pass

    monkeypatch.setattr(loop, "StretchLength", One)


@pytest.fixture
def train(tiny_folder: Path, tmp_path: Path) -> Train:
    """Train a network on the tiny dataset, cut after some steps if asked to."""

    def train(
        what: Any = "lenet", name: str = "r", cut: int | None = None, **settings: Any
    ) -> fbf.Run:
        ask = CutAfter(cut or 0, lambda: signal.raise_signal(signal.SIGINT))
        given = {"lr": 0.05, "epochs": 3, "batch_size": 16, **settings}
        where = {"data": tiny_folder, "run": tmp_path / name, "watch": "quiet"}
        if cut is None:
            return fbf.train(what, **where, **given)
        with pytest.raises(
            Interrupted, match=f"fivebyfive train .*--resume {tmp_path / name} --data"
        ):
            fbf.train(what, **where, listeners=[ask], **given)
        return fbf.load_run(tmp_path / name)

    return train


def resume(run: fbf.Run | Path, data: Path, **settings: Any) -> fbf.Run:
    path = run.path if isinstance(run, fbf.Run) else run
    return fbf.resume(path, data=data, watch="quiet", **settings)


@pytest.mark.parametrize("engine", ["cpu", "eager"])
@pytest.mark.parametrize("what", ["lenet", "convnet"])
@pytest.mark.parametrize("cut", [1, 4, 6])
def test_it_ends_bit_for_bit_as_if_never_cut(
    train: Train, tiny_folder: Path, what: str, engine: str, cut: int
) -> None:
    whole = train(what, "whole", engine=engine)
    broken = train(what, "broken", cut=cut, engine=engine)
    done = resume(broken, tiny_folder)
    assert fingerprint(done.path) == fingerprint(whole.path)
    assert done.result is not None
    assert whole.result is not None
    assert done.result["test_acc"] == whole.result["test_acc"]
    assert done.info["state"] == "finished"
    (again,) = done.info["resumed"]
    assert again["notes"] == []
    assert again["from"] == f"epoch {1 + (cut > 4)}, after step {cut if cut <= 4 else cut - 4}"


def test_as_many_images_at_a_time_as_the_run_had_come_to(
    train: Train, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fits may be more or less when it goes on; sums in other parts have other last bits."""
    broken = train(cut=6, engine="eager", micro_batch=5)
    place = checkpoints.place(broken.path, checkpoints.numbers(broken.path)[-1])
    state = checkpoints.read(broken.path, int(place.name), 1 << 20).state
    assert state["conditions"]["micro_batch"] == 5
    state["conditions"]["test_batch"] = 7
    content = [(place / name).read_bytes() for name in (checkpoints.WEIGHTS, checkpoints.OPTIMIZER)]
    checkpoints.write(broken.path, int(place.name) + 1, *content, state)
    seen = []

    def evaluate(engine: Eager) -> Tally:
        seen.append((engine.micro_batch, engine.test_batch))
        return tested(engine)

    tested = Eager.evaluate
    monkeypatch.setattr(Eager, "evaluate", evaluate)
    resume(broken, tiny_folder)
    assert seen == [(5, 7)] * 2


def test_without_any_checkpoint_it_starts_anew(train: Train, tiny_folder: Path) -> None:
    whole = train(name="whole")
    broken = train(name="broken", cut=2)
    shutil.rmtree(broken.path / "checkpoints")
    assert fingerprint(resume(broken, tiny_folder).path) == fingerprint(whole.path)


def test_a_damaged_checkpoint_is_told_and_the_one_before_used(
    train: Train, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train(name="whole")
    broken = train(name="broken", cut=6)
    newest = checkpoints.place(broken.path, checkpoints.numbers(broken.path)[-1])
    (newest / "weights.safetensors").write_bytes(b"")
    done = fbf.resume(broken.path, data=tiny_folder, watch="lines")
    told = capsys.readouterr().err
    assert told.count("A damaged checkpoint was passed over") == 1
    assert "resumed: the end of epoch 1" in told
    assert fingerprint(done.path)["rows"] == fingerprint(whole.path)["rows"]
    assert (done.path / "model.safetensors").read_bytes() == (
        whole.path / "model.safetensors"
    ).read_bytes()


def test_a_run_that_finished_is_given_back(train: Train, tiny_folder: Path) -> None:
    whole = train()
    before = fingerprint(whole.path)
    again = resume(whole, tiny_folder)
    assert again.trained is None
    assert again.result == whole.result
    assert fingerprint(again.path) == before


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


def files_of(run: Path) -> dict[Path, bytes]:
    """All that a run holds, but for who held its lock last."""
    paths = (path for path in run.rglob("*") if path.is_file() and path.name != "lock.json")
    return {path: path.read_bytes() for path in paths}


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


def test_what_has_finished_is_never_begun_anew(train: Train, tiny_folder: Path) -> None:
    whole = train()
    shutil.rmtree(whole.path / "checkpoints")
    before = files_of(whole.path)
    with pytest.raises(RunError, match="has no checkpoint to go on from"):
        resume(whole, tiny_folder, epochs=4, allow=["recipe"])
    assert files_of(whole.path) == before


def test_where_no_checkpoint_can_be_read_nothing_is_begun_anew(
    train: Train, tiny_folder: Path
) -> None:
    """Another version may have written them, or another user."""
    whole, broken = train(name="whole"), train(name="broken", cut=6)
    for manifest in broken.path.glob("checkpoints/*/manifest.json"):
        manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    before = files_of(broken.path)
    with pytest.raises(RunError, match=r"none of the checkpoints .* of format 2.* remove") as told:
        resume(broken, tiny_folder)
    assert str(broken.path / "checkpoints") in str(told.value)
    assert files_of(broken.path) == before
    shutil.rmtree(broken.path / "checkpoints")
    assert fingerprint(resume(broken, tiny_folder).path) == fingerprint(whole.path)


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


def test_what_there_is_nothing_to_go_on_with(tmp_path: Path, train: Train) -> None:
    with pytest.raises(RunError, match="there is no run at"):
        fbf.resume(tmp_path / "none")
    broken = train(cut=1)
    with pytest.raises(UnknownNameError, match="unknown change 'everything'"):
        fbf.resume(broken.path, allow=["everything"])
    with pytest.raises(RecipeError, match="checkpoint_every is -1"):
        fbf.resume(broken.path, checkpoint_every=-1)
    with pytest.raises(NetworkError, match="the run's network is lenet"):
        fbf.resume(broken.path, network="alexnet")
    with pytest.raises(DataError):  # its data lay in a folder, which has to be named again
        fbf.resume(broken.path)


def test_a_training_that_diverged_goes_back_with_another_rate(
    train: Train, tiny_folder: Path
) -> None:
    whole = train("convnet", "whole", optimizer="sgd")
    broken = train("convnet", "broken", optimizer="sgd", cut=5)
    with pytest.raises(DivergedError, match=r"in epoch 2, at step \d\. .* --allow-change recipe"):
        resume(broken, tiny_folder, lr=1e30, allow=["recipe"])
    done = resume(broken, tiny_folder, lr=whole.recipe.lr, allow=["recipe"])
    assert fingerprint(done.path) == fingerprint(whole.path)


def test_the_tensorboard_files_have_every_point_once(train: Train, tiny_folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    whole = train(name="whole", tensorboard=True)
    broken = train(name="broken", cut=6, tensorboard=True)
    done = resume(broken, tiny_folder)
    found, expected = (EventAccumulator(str(run.path)).Reload() for run in (done, whole))
    for tag in ("loss/train", "accuracy/train", "loss/test", "accuracy/test"):
        points = [(s.step, s.value) for s in found.Scalars(tag)]
        assert points == [(s.step, s.value) for s in expected.Scalars(tag)]
