from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fivebyfive import networks
from fivebyfive.recipes import Initialisation
from fivebyfive.training.weights import build_seeded, initialise

IMAGES = torch.rand(2, 1, 28, 28)


def test_weights_are_a_function_of_the_seed_alone() -> None:
    def build(seed: int) -> torch.Tensor:
        network = build_seeded(lambda: networks.build("lenet"), "xavier", seed, IMAGES)
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    torch.manual_seed(1)
    first = build(0)
    state = torch.random.get_rng_state()
    torch.rand(5)
    assert torch.equal(build(0), first)
    assert not torch.equal(build(1), first)
    torch.random.set_rng_state(state)
    build(2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_xavier_is_uniform_within_its_bound_and_leaves_the_rest() -> None:
    network = nn.Sequential(nn.Conv2d(2, 30, 5), nn.BatchNorm2d(30), nn.Linear(60, 90))
    before = [p.clone() for p in network[1].parameters()] + [network[2].bias.clone()]
    initialise(network, "xavier")
    for weight, fans in ((network[0].weight, 25 * 32), (network[2].weight, 150)):
        bound = math.sqrt(6 / fans)
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.95 * bound
    after = [*network[1].parameters(), network[2].bias]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_frozen_weights_stay() -> None:
    network = nn.Linear(3, 3)
    network.weight.requires_grad_(False)
    before = network.weight.clone()
    initialise(network, "xavier")
    assert torch.equal(network.weight, before)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_layers_are_a_function_of_the_seed_too() -> None:
    def build(seed: int, init: Initialisation) -> torch.Tensor:
        torch.rand(3)
        made = build_seeded(
            lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(5)), init, seed, IMAGES
        )
        return made[1].weight.detach()

    for init in ("default", "xavier"):
        assert torch.equal(build(0, init), build(0, init))
        assert not torch.equal(build(0, init), build(1, init))
    assert not torch.equal(build(0, "default"), build(0, "xavier"))


def test_default_leaves_everything() -> None:
    network = nn.Linear(3, 3)
    before = network.weight.clone()
    initialise(network, "default")
    assert torch.equal(network.weight, before)
