"""A run that is resumed ends as if it had never been cut; nothing is lost or begun anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import fivebyfive as fbf
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.interface import Metrics
from fivebyfive.lib.errors import (
    DataError,
    DivergedError,
    NetworkError,
    RecipeError,
    RunError,
    UnknownNameError,
)
from fivebyfive.runs import checkpoints

from .conftest import Train, files_of, fingerprint, resume


@pytest.mark.parametrize("engine", ["cpu", "eager"])
@pytest.mark.parametrize("what", ["lenet", "convnet"])
@pytest.mark.parametrize("cut", [6, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))])
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

    def evaluate(engine: Eager, between: Callable[[], None]) -> Metrics:
        seen.append((engine.micro_batch, engine.test_batch))
        return tested(engine, between)

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


def test_a_run_that_finished_is_given_back(train: Train, tiny_folder: Path) -> None:
    whole = train()
    before = fingerprint(whole.path)
    again = resume(whole, tiny_folder)
    assert again.trained is None
    assert again.result == whole.result
    assert fingerprint(again.path) == before


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
