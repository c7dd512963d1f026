from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fivebyfive import recipes
from fivebyfive.lib.errors import DataError, DeviceError, NetworkError, ShapeError, UnknownNameError
from fivebyfive.recipes import Recipe
from fivebyfive.training.loop import NoCheckpointer
from fivebyfive.training.session import prepare


def recipe(**changes: object) -> Recipe:
    return recipes.get("lenet-d2l").but(epochs=1, batch_size=16, **changes)


def test_everything_is_found_and_named(tiny_folder: Path) -> None:
    session = prepare(recipe(), folder=tiny_folder, device="cpu")
    started = session.started(None)
    assert session.recipe.dataset == session.data.name == started.data == "tiny"
    assert session.recipe.published == {}  # those are for the full dataset
    assert (started.train_images, started.test_images, started.steps) == (60, 20, 4)
    assert started.classes == ("0", "1", "2")
    assert started.parameters == sum(p.numel() for p in session.network.parameters())


def test_the_same_recipe_trains_the_same_network(tiny_folder: Path) -> None:
    weights = []
    for _ in range(2):
        session = prepare(recipe(seed=4), folder=tiny_folder, device="cpu")
        session.run(session.started(None), [], NoCheckpointer())
        weights.append([p.detach().clone() for p in session.network.parameters()])
        torch.rand(3)
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_a_network_of_the_callers_is_trained_in_place(tiny_folder: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    before = network[1].weight.clone()
    r = recipe(network="mine", init="default")
    session = prepare(r, network=network, folder=tiny_folder, device="cpu")
    assert torch.equal(network[1].weight, before)
    session.run(session.started(None), [], NoCheckpointer())
    assert session.network is network
    assert not torch.equal(network[1].weight, before)


def test_the_sample_takes_as_many_steps_unless_told_otherwise() -> None:
    session = prepare(recipe(dataset="sample"), device="cpu", epochs_named=False)
    assert session.recipe.epochs == 10
    assert session.data.notice is not None
    assert "1 epochs become 10" in session.data.notice
    session = prepare(recipe(dataset="sample"), device="cpu", epochs_named=True)
    assert session.recipe.epochs == 1


def test_limit_keeps_the_first_images(tiny_folder: Path) -> None:
    session = prepare(recipe(limit=13), folder=tiny_folder, device="cpu")
    assert (len(session.data.train), len(session.data.test)) == (13, 13)


class Wants3(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 3))


def flat(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, outputs))


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (Wants3(), ShapeError, "mine doesn't take the images of 1×28×28"),
        (flat(5), ShapeError, r"gives \[2, 5\] for 2 images"),
        (nn.Flatten(), NetworkError, "no trainable parameters"),
    ],
)
def test_networks_that_cant_be_trained(
    network: nn.Module, error: type[Exception], message: str, tiny_folder: Path
) -> None:
    with pytest.raises(error, match=message):
        prepare(recipe(network="mine"), network=network, folder=tiny_folder)


def test_a_named_network_says_which_flag_mends_the_shape(tiny_folder: Path) -> None:
    with pytest.raises(ShapeError, match=r"1×28×28.*expects 1×224×224: --resize 224"):
        prepare(recipe(network="alexnet"), folder=tiny_folder)


def test_what_isnt_there(tmp_path: Path) -> None:
    with pytest.raises(DeviceError):
        prepare(recipe(), device="cuda:99")
    with pytest.raises(UnknownNameError, match="unknown network"):
        prepare(recipe(network="lenett"))
    with pytest.raises(DataError):
        prepare(recipe(), folder=tmp_path)
