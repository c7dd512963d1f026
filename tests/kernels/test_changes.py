"""What is done to a network after it was accelerated is followed, and hooks are called."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from fivebyfive import networks
from fivebyfive.kernels.accelerate import accelerate

from .comparing import Network, assert_same_behaviour, assert_same_values, block, images

# --- parameters, layers and settings --------------------------------------------------------------


def test_an_optimizer_and_a_changed_layer_are_followed(
    passes: list[Any], tolerances: ModuleType
) -> None:
    network = networks.build("lenet")
    accelerate(network)
    x, y = torch.rand(8, 1, 28, 28), torch.arange(8)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    F.cross_entropy(network(x), y).backward()
    optimizer.step()
    assert torch.allclose(
        network(x), network.forward(x), atol=tolerances.at_most(tolerances.LENET_DEPTH)
    )
    network[1] = nn.ReLU()
    assert torch.allclose(
        network(x), network.forward(x), atol=tolerances.at_most(tolerances.LENET_DEPTH)
    )
    network[0] = nn.Conv2d(1, 6, 5, padding=2)
    assert torch.allclose(
        network(x), network.forward(x), atol=tolerances.at_most(tolerances.LENET_DEPTH)
    )
    assert len(passes) == 4


def set_stride(network: Any) -> None:
    network.body[0].stride = (2, 2)
    network.head = nn.Linear(12, 4)


def set_scale(network: Any) -> None:
    network.scale = 3.0


def set_forward(network: Any) -> None:
    network.body[1].forward = torch.abs


def wrap_forward(network: Any) -> None:
    convolve = network.body[0].forward
    network.body[0].forward = lambda x: convolve(x) * 2


def swap(network: Any) -> None:
    network.body[1] = nn.LeakyReLU(0.3)


@pytest.mark.parametrize("change", [set_stride, set_scale, set_forward, wrap_forward, swap])
@pytest.mark.parametrize("later", [False, True])
def test_settings_are_followed(change: Callable[[Any], None], later: bool) -> None:
    network = Network(lambda network, x: network.body(x) * network.scale)
    if later:
        assert_same_behaviour(network, images())
    accelerate(network)
    change(network)
    torch.testing.assert_close(network(images()), network.forward(images()), rtol=1e-4, atol=1e-5)
    assert_same_behaviour(network, images())


@pytest.mark.parametrize(
    ("weight", "bias"),
    [((2, 2, 3, 3), 2), ((3, 2, 5, 5), 3), ((3, 2, 3, 1), 3), ((3, 1, 3, 3), 3), ((5, 2, 3, 3), 5)],
)
def test_parameters_of_other_shapes_than_the_layer_was_made_with(
    passes: list[Any], weight: tuple[int, ...], bias: int
) -> None:
    network = block(nn.ReLU())
    accelerate(network)
    network(torch.rand(2, 2, 9, 9))
    network[0].weight = nn.Parameter(torch.randn(weight))
    network[0].bias = nn.Parameter(torch.randn(bias))
    assert_same_values(network, torch.rand(2, weight[1], 9, 9))
    if weight[1] != 2:
        with pytest.raises(RuntimeError, match="channels"):
            network(torch.rand(2, 2, 9, 9))
    assert passes


def test_dropout_follows_the_mode(passes: list[Any], tolerances: ModuleType) -> None:
    network = block(nn.ReLU(), nn.Dropout(0.5))
    accelerate(network)
    x = torch.rand(4, 2, 9, 9)
    torch.manual_seed(0)
    found = network(x)
    torch.manual_seed(0)
    assert torch.allclose(
        found, network.forward(x), atol=tolerances.at_most(tolerances.LENET_DEPTH)
    )
    network.eval()
    assert torch.allclose(
        network(x), network.forward(x), atol=tolerances.at_most(tolerances.LENET_DEPTH)
    )
    assert len(passes) == 2


def test_what_hangs_on_the_network_is_not_kept_alive() -> None:
    """Were the network itself held by what is known of it, it could never go."""
    network = Network(lambda network, x: network.body(x))
    accelerate(network)
    network(images())
    gone = weakref.ref(network)
    del network
    gc.collect()
    assert gone() is None


# --- hooks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [0, 1, 2])
def test_hooks_inside_are_called(passes: list[Any], where: int) -> None:
    network = block(nn.ReLU(), nn.Sequential(nn.MaxPool2d(2)))
    accelerate(network)
    x = torch.rand(2, 2, 9, 9)
    network(x)
    assert len(passes) == 1
    seen: list[Any] = []
    handle = network[where].register_forward_hook(lambda *a: seen.append(a))
    torch.testing.assert_close(network(x), network.forward(x))
    assert len(seen) == 2
    handle.remove()
    passes.clear()
    network(x)
    assert (len(seen), len(passes)) == (2, 1)


def test_hooks_on_the_network_itself_are_called() -> None:
    network = block()
    seen: list[Any] = []
    network.register_forward_hook(lambda *a: seen.append(a))
    accelerate(network)(torch.rand(2, 2, 9, 9))
    assert len(seen) == 1


def test_who_listens_to_all_modules_hears_all() -> None:
    network, seen = nn.Sequential(nn.Linear(3, 2), nn.Tanh()), []
    hook = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
    try:
        accelerate(network)(torch.rand(4, 3))
    finally:
        hook.remove()
    assert seen[:2] == [*network]
