"""Programs drawn at random give what the plain network gives; small ones that once did not."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fivebyfive.kernels.accelerate import accelerate
from fivebyfive.kernels.library import report

from .comparing import accelerated, assert_same_behaviour, block
from .kinds import KINDS
from .programs import run

pytestmark = [
    pytest.mark.skipif(report().active is None, reason="needs the compiled kernels"),
    pytest.mark.filterwarnings("ignore"),  # of what these programs do on purpose
]


def test_there_are_forty_kinds() -> None:
    assert len(KINDS) >= 40


@pytest.mark.parametrize("seed", range(0, 1500, 100))
def test_programs(seed: int) -> None:
    assert not run(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 5000, 100))
def test_many_programs(first: int) -> None:
    assert not [told for seed in range(first, first + 100) if (told := run(seed))]


def test_dropout_draws_in_the_order_that_images_lie_in() -> None:
    x = torch.rand(2, 2, 5, 5).to(memory_format=torch.channels_last)
    assert_same_behaviour(block(nn.Sigmoid(), nn.Dropout()), x)


@pytest.mark.parametrize("channels", [2, 16])
def test_what_one_layer_gives_another_is_no_shortcut_for_second_derivatives(channels: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.Tanh())
    x = torch.randn(8, channels, 12, 12)

    def second(network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
        # The second call's input depends on the weights, too.
        inputs = [x.clone().requires_grad_(), *network.parameters()]
        out = network(network(inputs[0])).square().sum()
        first = torch.autograd.grad(out, inputs, create_graph=True)
        return [*first, *torch.autograd.grad(sum(g.square().sum() for g in first), inputs)]  # type: ignore[arg-type]

    exact = second(copy.deepcopy(network).double(), x.double())
    for found, expected in zip(second(accelerate(network), x), exact, strict=True):
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_layer_under_two_names_whose_weight_is_computed() -> None:
    linear = nn.utils.parametrizations.weight_norm(nn.Linear(27, 27))
    network = block(nn.Sigmoid(), nn.Flatten(), linear, nn.Tanh(), linear)
    assert_same_behaviour(network, torch.rand(3, 2, 5, 5))


def test_what_a_checkpoint_computes_again_counts() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2))
            self.register_buffer("steps", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x + self.steps.add_(1))  # type: ignore[no-any-return, operator]

    torch.manual_seed(0)
    network = Counting()
    grads = []
    for each in (accelerated(network), network):
        checkpoint(each, torch.ones(2, 3), use_reentrant=False).sum().backward()
        grads.append([p.grad for p in each.parameters()])
    torch.testing.assert_close(*grads)


def test_errors_are_pytorchs_own_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    for network in (block(nn.Flatten(), nn.Linear(3, 2)), KINDS["Simple"]()):
        accelerate(network)
        for x in (torch.rand(2, 2, 5, 5), torch.rand(2, 3, 6, 6)):
            with pytest.raises(RuntimeError) as expected:
                network.forward(x)
            with pytest.raises(RuntimeError) as found:
                network(x)
            assert str(found.value) == str(expected.value)
    assert capfd.readouterr() == ("", "")
