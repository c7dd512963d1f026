from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from torch import nn

import fivebyfive as fbf
from fivebyfive import recipes, runs
from fivebyfive.datasets.splits import Dataset
from fivebyfive.lib.errors import (
    DataError,
    DivergedError,
    NetworkError,
    RecipeError,
    RunError,
    ShapeError,
    UnknownNameError,
)
from fivebyfive.training.events import ChunkDone, Event


class Tiny(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 3))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(what: object, folder: Path, **settings: object) -> runs.Run:
    given = {"data": folder, "watch": "quiet", "device": "cpu", "epochs": 2, **settings}
    return fbf.train(what, **given)  # type: ignore[arg-type]


def test_a_training_leaves_all_its_files(here: Path, tiny_folder: Path) -> None:
    run = train("lenet", tiny_folder, lr=0.5, batch_size=16)
    assert run.path.parent == here / "runs"
    assert run.path.name.endswith("-lenet-d2l")
    files = {file.name for file in run.path.iterdir()}
    kept = {"run.json", "metrics.jsonl", "model.safetensors", "curves.png", "checkpoints"}
    assert files == kept | {"lock", "lock.json"}
    assert (run.path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    info = json.loads((run.path / "run.json").read_text())
    assert info["state"] == "finished"
    assert info["environment"]["torch"] == str(torch.__version__)
    assert set(info["data"]["digests"]) == {
        f"{part}-{kind}"
        for part in ("train", "t10k")
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    }
    epochs = [row for row in run.metrics() if row["event"] == "epoch"]
    assert [row["epoch"] for row in epochs] == [1, 2]
    assert run.result is not None
    assert epochs[-1]["test_acc"] == run.result["test_acc"]
    shown = run.path.relative_to(here)
    assert repr(run) == f"<Run {shown}: lenet-d2l, finished, test acc {run.result['test_acc']:.3f}>"


def test_an_opened_run_has_the_trained_network(here: Path, tiny_folder: Path) -> None:
    run = train("convnet", tiny_folder)
    opened = fbf.load_run(run.path)
    assert opened.recipe == run.recipe
    assert opened.trained is None
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(opened.network()(images), run.network()(images))


class Mover:
    """A listener that changes the working directory in the middle of a training."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on(self, event: Event) -> None:
        if isinstance(event, ChunkDone):
            os.chdir(self._folder)

    def close(self) -> None:
        pass


def test_a_program_may_change_its_working_directory(here: Path, tiny_folder: Path) -> None:
    (here / "other").mkdir()
    mover = Mover(here / "other")
    run = train("lenet", tiny_folder, run="r", epochs=1, tensorboard=True, listeners=[mover])
    assert run.result is not None
    assert (run.path, run.result["run"]) == (here / "r", "r")
    os.chdir(here)
    opened = fbf.load_run("r")
    os.chdir(here / "other")
    for each in (run, opened):
        assert repr(each).startswith("<Run r: lenet-d2l, finished")
        assert each.network() is not None
        assert each.metrics()
        assert fbf.test(each, data=tiny_folder).images == 20
    os.chdir(here)
    assert fbf.resume("r").path == run.path
    change = {"epochs": 2, "allow": ["recipe"], "data": tiny_folder, "watch": "quiet"}
    longer = fbf.resume("r", listeners=[mover], **change)  # type: ignore[arg-type]
    assert longer.result is not None
    assert (longer.path, longer.result["run"]) == (here / "r", "r")
    assert list((here / "other").iterdir()) == []


@pytest.mark.parametrize("name", ["lenet", "convnet"])
def test_a_run_is_tested_as_the_training_tested_it(
    name: str, here: Path, tiny_folder: Path
) -> None:
    run = train(name, tiny_folder)
    verdict = fbf.test(run.path, data=tiny_folder, device="cpu")
    assert run.result is not None
    assert verdict.correct == round(run.result["test_acc"] * 20)
    assert verdict.loss == pytest.approx(run.result["test_loss"], rel=1e-6)
    assert (run.path / "confusion.png").is_file()
    assert (run.path / "mistakes.png").is_file()


def test_ones_own_network_in_python(here: Path, tiny_folder: Path) -> None:
    network = Tiny()
    run = train(network, tiny_folder)
    assert run.trained is network
    assert (run.recipe.name, run.recipe.network) == ("tiny", "Tiny")
    assert (run.recipe.optimizer, run.recipe.lr, run.recipe.init) == ("adam", 0.001, "default")
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(run.network()(images), network(images))
    assert run.network() is not network
    assert fbf.test(run, data=tiny_folder).images == 20
    opened = fbf.load_run(run.path)
    with pytest.raises(NetworkError, match="'Tiny' isn't one of the named ones"):
        opened.network()
    fresh = Tiny()
    before = fresh[1].weight.clone()
    assert fbf.test(opened, data=tiny_folder, network=fresh, pictures=False).images == 20
    assert torch.equal(fresh[1].weight, before)  # the caller's own module is left alone
    assert fbf.layers(opened, network=fresh).parameters == 784 * 3 + 3


def test_ones_own_network_by_file(here: Path, tiny_folder: Path) -> None:
    (here / "net.py").write_text(
        "from torch import nn\nclass TinyNet(nn.Sequential):\n"
        "    def __init__(self):\n        super().__init__(nn.Flatten(), nn.Linear(784, 3))\n"
    )
    run = train("net.py:TinyNet", tiny_folder)
    assert run.recipe.name == "tiny-net"
    with pytest.raises(NetworkError, match="--network FILE"):
        fbf.test(run.path, data=tiny_folder)
    assert fbf.test(run.path, data=tiny_folder, network="net.py:TinyNet").images == 20
    with pytest.raises(NetworkError, match=r"network is net\.py:TinyNet"):
        fbf.test(run.path, data=tiny_folder, network="lenet")
    assert fbf.layers("net.py:TinyNet").parameters == 784 * 3 + 3


def test_a_recipes_settings_on_ones_own_network(here: Path, tiny_folder: Path) -> None:
    run = train(recipes.get("lenet-d2l").but(epochs=1), tiny_folder, seed=2, epochs=None)
    assert (run.recipe.name, run.recipe.seed, run.recipe.epochs) == ("lenet-d2l", 2, 1)


def test_settings_from_a_file_lose_against_keywords(here: Path, tiny_folder: Path) -> None:
    (here / "a.toml").write_text('recipe = "lenet-mnist"\nepochs = 1\nbatch-size = 8\nlr = 0.25\n')
    run = train(None, tiny_folder, config="a.toml", epochs=2, batch_size=None)
    recipe = run.recipe
    assert recipe.name == "lenet-mnist"
    assert (recipe.epochs, recipe.batch_size, recipe.lr) == (2, 8, 0.25)
    assert train("convnet", tiny_folder, config="a.toml").recipe.name == "convnet-mnist"


def test_tensorboard_files_lie_in_the_run_folder(here: Path, tiny_folder: Path) -> None:
    run = train("lenet", tiny_folder, tensorboard=True)
    assert list(run.path.glob("events.out.tfevents.*"))


def test_nothing_is_ever_overwritten(here: Path, tiny_folder: Path) -> None:
    (here / "taken").mkdir()
    (here / "taken" / "precious").write_text("x")
    with pytest.raises(RunError, match="taken exists and isn't empty"):
        train("lenet", tiny_folder, run="taken")
    with pytest.raises(RunError, match="is a file"):
        train("lenet", tiny_folder, run=here / "taken" / "precious")
    assert [p.name for p in (here / "taken").iterdir()] == ["precious"]


def test_the_saved_random_state_is_the_callers(here: Path, tiny_folder: Path) -> None:
    state = torch.random.get_rng_state()
    run = train("lenet", tiny_folder)
    fbf.test(run, data=tiny_folder)
    fbf.layers(run)
    fbf.load_run(run.path).network()
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"batch_size": 0}, fbf.FiveByFiveError),
        ({"lr": float("nan")}, fbf.FiveByFiveError),
        ({"device": "cuda:77"}, fbf.FiveByFiveError),
        ({"network": "alexnet"}, ShapeError),
        ({"engine": "steam"}, UnknownNameError),
        ({"config": "none.toml"}, fbf.FiveByFiveError),
        ({"data": "fashion-mnits"}, UnknownNameError),
        ({"watch": "closely"}, UnknownNameError),
        ({"run": ""}, RunError),
        ({"data": 3}, fbf.FiveByFiveError),
        ({"lr": 0, "optimizer": "adam"}, fbf.FiveByFiveError),
    ],
)
def test_bad_input_leaves_nothing_behind(
    settings: dict[str, object], error: type[Exception], here: Path, tiny_folder: Path
) -> None:
    with pytest.raises(error):
        train("lenet", tiny_folder, **settings)
    assert [p.name for p in here.iterdir()] == ["tiny"]


def test_diverging_tells_and_keeps_what_there_is(here: Path, tiny_folder: Path) -> None:
    with pytest.raises(DivergedError):
        train(Tiny(), tiny_folder, optimizer="sgd", lr=1e38, run="r")
    info = json.loads((here / "r" / "run.json").read_text())
    assert info["state"] == "failed"
    assert info["result"] is None
    assert (here / "r" / "curves.png").is_file()


@pytest.mark.parametrize("what", [3, nn.Linear, b"lenet"])
def test_what_cant_be_trained(what: object) -> None:
    with pytest.raises(fbf.FiveByFiveError, match="expected a name, a Recipe"):
        fbf.train(what)  # type: ignore[arg-type]


def test_unknown_words() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'lenet'.*FILE\.py:NAME"):
        fbf.train("lnet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "run.json is missing"),
        ("", "can't be read as a run"),
        ("[]", "can't be read as a run"),
        ("{}", "can't be read as a run"),
        ('{"format": 99}', "format 99; this version reads 1"),
        ('{"format": 1, "recipe": {"name": "x"}}', "not a recipe"),
        ('{"format": 1, "recipe": []}', "can't be read as a run"),
    ],
)
def test_folders_that_are_no_runs(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(fbf.FiveByFiveError, match=message):
        fbf.load_run(tmp_path)


def test_weights_that_are_missing_or_damaged(here: Path, tiny_folder: Path) -> None:
    run = fbf.load_run(train("lenet", tiny_folder).path)
    weights = run.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(NetworkError, match="don't fit the network"):
        run.network()
    weights.unlink()
    with pytest.raises(NetworkError, match="hasn't finished an epoch"):
        run.network()


def test_a_result_that_is_none(here: Path, tiny_folder: Path) -> None:
    path = train("lenet", tiny_folder).path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "result": {}}))
    with pytest.raises(RunError, match="can't be read as a run"):
        fbf.load_run(path.parent)


def test_pictures_that_cant_be_drawn_dont_lose_the_verdict(
    here: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("lenet", tiny_folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fivebyfive.verbs.test.draw_confusion", full)
    with pytest.warns(UserWarning, match=r"can't draw the pictures in .*No space left"):
        assert fbf.test(run, data=tiny_folder).images == 20


def test_other_data_than_the_runs(here: Path, tiny_folder: Path) -> None:
    run = train("lenet", tiny_folder)
    with pytest.raises(DataError, match="Name it by --data"):
        fbf.test(run.path)
    with pytest.raises(DataError, match="isn't the data of this run"):
        fbf.test(run.path, data="sample")


def test_layers_of_all_sorts(here: Path, tiny_folder: Path) -> None:
    assert fbf.layers("lenet").parameters == 61_706
    assert fbf.layers("lenet-d2l-1.0").batch_size == 128
    assert fbf.layers("alexnet").input_shape == (1, 224, 224)
    assert fbf.layers("lenet", input="3x28x28", batch_size=2).rows[0].input_shape == (1, 3, 28, 28)
    assert fbf.layers(Tiny(), input=(1, 28, 28)).parameters == 784 * 3 + 3
    run = train("lenet", tiny_folder)
    for way in (run, run.path, str(run.path)):
        assert fbf.layers(way).rows[-1].output_shape[-1] == 3
    with pytest.raises(ShapeError, match="expected CHANNELSxHEIGHTxWIDTH"):
        fbf.layers("lenet", input="28")


def test_an_opened_run_serves_where_its_folder_does(here: Path, tiny_folder: Path) -> None:
    run = train("lenet", tiny_folder)
    assert fbf.resume(run).result == run.result
    assert fbf.layers(run, input=[1, 28, 28]).network == "lenet"
    for wrong in (3, run.network()):
        for call in (fbf.load_run, fbf.resume, fbf.test):
            with pytest.raises(RunError, match="expected its folder's path, or a Run"):
                call(wrong)  # type: ignore[operator]


@pytest.mark.parametrize("shape", [28, (28, 28), (1, 28, 28.0), "28x28"])
def test_a_shape_has_three_numbers(shape: object) -> None:
    with pytest.raises(ShapeError, match="expected CHANNELSxHEIGHTxWIDTH"):
        fbf.layers("lenet", input=shape)  # type: ignore[arg-type]


def test_listeners_are_looked_at_before_anything_starts(here: Path, tiny_folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"expected objects with on\(event\) and close\(\)"):
        train("lenet", tiny_folder, listeners=[print])
    assert not (here / "runs").exists()


def test_tables_are_what_a_notebook_and_the_prompt_show() -> None:
    assert repr(fbf.layers("alexnet")).startswith("alexnet, one image of 1x224x224\n")


def test_a_home_folder_is_found(
    here: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("USERPROFILE", str(here))
    (here / "s.toml").write_text("epochs = 1\n")
    run = train("lenet", tiny_folder, run="~/r", config="~/s.toml", epochs=None)
    assert run.path == here / "r"
    assert fbf.load_run("~/r").recipe.epochs == 1


def test_a_home_folder_that_nobody_has_is_told() -> None:
    nobodys = "~nobody-of-this-name/x"
    for error, setting in ((DataError, "data"), (RunError, "run"), (RecipeError, "config")):
        with pytest.raises(error, match="there is no such home folder"):
            fbf.train("lenet", **{setting: nobodys})
    with pytest.raises(RunError, match="there is no such home folder"):
        fbf.load_run(nobodys)


def test_a_loaded_dataset_is_neither_read_nor_verified_again(
    here: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> NoReturn:
        raise AssertionError("loaded again")

    monkeypatch.setattr(fbf.datasets, "load", load)
    run = train("lenet", tiny, limit=40)  # type: ignore[arg-type]
    assert run.recipe.dataset == "tiny"
    assert run.info["data"]["train_images"] == 40
    assert fbf.test(run, data=tiny).images == 20
    assert fbf.resume(run, data=tiny, epochs=3, allow=["recipe"], watch="quiet").result is not None


@pytest.mark.parametrize("data", [3, None.__class__, [1]])
def test_data_that_is_neither_a_name_nor_a_dataset(here: Path, data: object) -> None:
    with pytest.raises(RecipeError, match="expected a dataset's name, a path, or a Dataset"):
        train("lenet", data)  # type: ignore[arg-type]
