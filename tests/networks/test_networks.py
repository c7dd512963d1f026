from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fivebyfive import networks, recipes
from fivebyfive.lib.errors import UnknownNameError
from fivebyfive.networks import NETWORKS, Architecture

named = pytest.mark.parametrize("architecture", NETWORKS.values(), ids=NETWORKS.keys())

# What the study notes print for LeNet and AlexNet.
LENET = [
    ("Conv2d", (1, 6, 28, 28)),
    ("Sigmoid", (1, 6, 28, 28)),
    ("AvgPool2d", (1, 6, 14, 14)),
    ("Conv2d", (1, 16, 10, 10)),
    ("Sigmoid", (1, 16, 10, 10)),
    ("AvgPool2d", (1, 16, 5, 5)),
    ("Flatten", (1, 400)),
    ("Linear", (1, 120)),
    ("Sigmoid", (1, 120)),
    ("Linear", (1, 84)),
    ("Sigmoid", (1, 84)),
    ("Linear", (1, 10)),
]
ALEXNET = [
    ("Conv2d", (1, 96, 54, 54)),
    ("ReLU", (1, 96, 54, 54)),
    ("MaxPool2d", (1, 96, 26, 26)),
    ("Conv2d", (1, 256, 26, 26)),
    ("ReLU", (1, 256, 26, 26)),
    ("MaxPool2d", (1, 256, 12, 12)),
    ("Conv2d", (1, 384, 12, 12)),
    ("ReLU", (1, 384, 12, 12)),
    ("Conv2d", (1, 384, 12, 12)),
    ("ReLU", (1, 384, 12, 12)),
    ("Conv2d", (1, 256, 12, 12)),
    ("ReLU", (1, 256, 12, 12)),
    ("MaxPool2d", (1, 256, 5, 5)),
    ("Flatten", (1, 6400)),
    ("Linear", (1, 4096)),
    ("ReLU", (1, 4096)),
    ("Dropout", (1, 4096)),
    ("Linear", (1, 4096)),
    ("ReLU", (1, 4096)),
    ("Dropout", (1, 4096)),
    ("Linear", (1, 10)),
]


@named
def test_has_the_parameters_and_the_output_it_states(architecture: Architecture) -> None:
    network = architecture.build()
    assert sum(p.numel() for p in network.parameters()) == architecture.parameters
    with torch.no_grad():
        assert network.eval()(torch.rand(2, *architecture.input)).shape == (2, 10)


@named
def test_takes_channels_and_classes(architecture: Architecture) -> None:
    _, height, width = architecture.input
    with torch.device("meta"):
        network = networks.build(architecture.name, channels=3, classes=7)
        assert network(torch.rand(2, 3, height, width)).shape == (2, 7)


@named
def test_its_recipe_trains_it(architecture: Architecture) -> None:
    assert recipes.get(architecture.recipe).network == architecture.name


@pytest.mark.parametrize(("name", "expected"), [("lenet", LENET), ("alexnet", ALEXNET)])
def test_layers_have_the_shapes_of_the_notes(
    name: str, expected: list[tuple[str, tuple[int, ...]]]
) -> None:
    network = networks.build(name)
    assert isinstance(network, nn.Sequential)
    x = torch.rand(1, *NETWORKS[name].input)
    shapes = []
    for layer in network.eval():
        x = layer(x)
        shapes.append((type(layer).__name__, tuple(x.shape)))
    assert shapes == expected


def test_lenet_takes_flat_images_too() -> None:
    lenet = networks.build("lenet")
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(lenet(images), lenet(images.flatten(1)))
    assert networks.build("lenet", channels=3)(torch.rand(2, 3 * 784)).shape == (2, 10)


def test_lenet_refuses_images_of_another_size() -> None:
    # A reshape of whatever comes would make four images of this one, and no error.
    with pytest.raises(RuntimeError):
        networks.build("lenet")(torch.rand(1, 1, 56, 56))


@pytest.mark.parametrize("name", ["lenet", "convnet"])
def test_can_be_traced_and_copied(name: str) -> None:
    network = networks.build(name)
    images = torch.rand(2, 1, 28, 28)
    traced = torch.fx.symbolic_trace(network)
    assert torch.equal(traced(images), network(images))
    assert torch.equal(copy.deepcopy(network)(images), network(images))


def test_the_convnet_gives_log_probabilities() -> None:
    scores = networks.build("convnet")(torch.rand(4, 1, 28, 28))
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(4))


def test_an_unknown_network() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'lenet'.*FILE\.py:NAME"):
        networks.build("lenett")


def test_lenet_can_be_cut_like_any_sequential() -> None:
    net = networks.build("lenet")
    assert isinstance(net[0], nn.Conv2d)
    assert isinstance(net[-1], nn.Linear)
    block = net[:3]
    assert type(block) is nn.Sequential
    assert block(torch.zeros(2, 1, 28, 28)).shape == (2, 6, 14, 14)
    assert block[0].weight is net[0].weight
