from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fivebyfive.datasets.splits import Dataset
from fivebyfive.lib.errors import FiveByFiveError, NetworkError, RecipeError, ShapeError
from fivebyfive.recipes import Recipe
from fivebyfive.training.check import check, shape_error


def recipe(**changes: object) -> Recipe:
    return Recipe(name="r", network="mine", batch_size=16).but(**changes)


def flat(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *layers)


class Forward(nn.Module):
    """Linear layer whose forward is the test's."""

    def __init__(self, forward: object) -> None:
        super().__init__()
        self.linear = nn.Linear(784, 3)
        self.way = forward

    def forward(self, x: Tensor) -> object:
        return self.way(self, x)  # type: ignore[operator]


def two_heads(self: Forward, x: Tensor) -> object:
    scores = self.linear(x.flatten(1))
    return (scores, scores) if self.training else scores


def one_at_a_time(self: Forward, x: Tensor) -> object:
    return self.linear(x.view(1, 784))


def wrong_type(self: Forward, x: Tensor) -> object:
    raise TypeError("no such argument")


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (nn.Flatten(), NetworkError, "no trainable parameters"),
        (flat(nn.Linear(784, 3)).half(), NetworkError, "parameters of torch.float16"),
        (flat(nn.Linear(784, 5)), ShapeError, r"gives \[2, 5\] for 2 images; .* \[2, 3\]"),
        (flat(nn.Linear(100, 3)), ShapeError, "doesn't take the images of 1×28×28"),
        (nn.Conv2d(3, 4, 3), ShapeError, "doesn't take the images of 1×28×28"),
        (Forward(two_heads), ShapeError, "gives tuple for 2 images"),
        (Forward(one_at_a_time), ShapeError, "doesn't take the images"),
        (Forward(wrong_type), NetworkError, "raised TypeError: no such argument"),
    ],
)
def test_what_doesnt_fit_is_told(
    network: nn.Module, error: type[FiveByFiveError], message: str, tiny: Dataset
) -> None:
    with pytest.raises(error, match=message):
        check(network, recipe(), tiny, tiny.train.images[:2].float())


def test_the_network_is_left_as_it_was(tiny: Dataset) -> None:
    norm = nn.BatchNorm1d(8)
    network = flat(nn.Linear(784, 8), norm, nn.Dropout(), nn.Linear(8, 3))
    norm.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.random.get_rng_state()
    check(network, recipe(), tiny, tiny.train.images[:2].float())
    assert network.training
    assert not norm.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())


def test_batch_normalisation_needs_two_images(tiny: Dataset) -> None:
    network = flat(nn.Linear(784, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    images = tiny.train.images[:2].float()
    with pytest.raises(RecipeError, match="leaves one of 60 images for the last batch"):
        check(network, recipe(batch_size=59), tiny, images)
    check(network, recipe(batch_size=58), tiny, images)
    network[2].eval()  # type: ignore[index]
    check(network, recipe(batch_size=59), tiny, images)


def test_resizing_is_only_advised_where_it_helps() -> None:
    error = RuntimeError("no")
    square, oblong = torch.rand(2, 1, 28, 28), torch.rand(2, 1, 28, 20)
    assert "--resize 224" in shape_error(recipe(network="alexnet"), square, error)
    assert "--resize N" in shape_error(recipe(), square, error)
    assert "--resize" not in shape_error(recipe(network="lenet"), oblong, error)
