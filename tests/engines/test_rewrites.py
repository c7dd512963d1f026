"""The rewritten network computes what the network itself does, and stays the user's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.cpu import Cpu
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.interface import Epoch, Job, Metrics
from fivebyfive.engines.precision import why_unsupported
from fivebyfive.engines.rewrites import rewritten
from fivebyfive.recipes import Recipe

from .guarded import PLENTY, Guard, guard_of
from .rewriting import gradients, needs_onednn

CPU = torch.device("cpu")

# --- pooling first -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(deadline=None, max_examples=60)
@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
    inplace=st.booleans(),
    last=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_pooling_first_is_the_same_bit_for_bit(
    dtype: torch.dtype, kernel: int, stride: int, padding: int, inplace: bool, last: bool, seed: int
) -> None:
    """On few whole numbers, so that maxima tie and many windows hold nothing above 0."""
    pool = nn.MaxPool2d(kernel, stride, padding if kernel > 1 else 0)
    network = nn.Sequential(nn.ReLU(inplace), pool)
    faster = rewritten(network)
    assert list(faster) == [network[1], network[0]]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-3, 2, (2, 3, 9, 7), generator=generator).to(dtype)
    x[0, 0, 0, 0] = torch.nan
    x[1, 0, 4, 4] = torch.inf
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    upstream = torch.randn(network(x.clone()).shape, generator=generator).to(dtype)
    for found, expected in zip(
        gradients(faster, x, upstream), gradients(network, x, upstream), strict=True
    ):
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


# --- the network stays the user's ----------------------------------------------------------------


class UserNetwork(nn.Module):
    """A module that isn't known to run its layers one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class Backwards(nn.Sequential):
    """Runs its layers the other way round."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in reversed(list(self)):
            x = layer(x)
        return x


class Other(nn.ReLU):
    """Not a ReLU at all."""

    def forward(self, x: Tensor) -> Tensor:
        return x - 1


class Shout(nn.Sequential):
    """Named as people name their networks; runs as any chain does."""


def test_chains_within_chains_and_layers_used_twice() -> None:
    relu, pool = nn.ReLU(), nn.MaxPool2d(2)
    network = Shout(nn.Sequential(nn.Conv2d(1, 2, 3), relu), pool, nn.Conv2d(2, 2, 3), relu, pool)
    faster = rewritten(network)
    assert [type(layer).__name__ for layer in faster] == [
        "Conv2d", "MaxPool2d", "ReLU", "Conv2d", "MaxPool2d", "ReLU",
    ]  # fmt: skip
    x = torch.randn(2, 1, 20, 20)
    assert torch.equal(faster(x), network(x))
    assert {id(p) for p in faster.parameters()} == {id(p) for p in network.parameters()}


@pytest.mark.parametrize(
    "network",
    [
        UserNetwork(),
        Backwards(nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(Other(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Sigmoid(), nn.MaxPool2d(2)),
        nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, return_indices=True)),
        nn.Sequential(nn.ReLU(), nn.AvgPool2d(2)),
        nn.Sequential(),
    ],
    ids=lambda network: str(network).replace("\n", ""),
)
def test_what_might_be_different_is_left_alone(network: nn.Module) -> None:
    assert rewritten(network) is network


@pytest.mark.parametrize("place", [0, 1, slice(None)], ids=["ReLU", "pooling", "whole"])
def test_who_listens_sees_the_layers_as_they_are(place: int | slice) -> None:
    network = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
    watched = network if isinstance(place, slice) else network[place]
    seen: list[torch.Size] = []
    hook = watched.register_forward_hook(lambda _, __, out: seen.append(out.shape))
    rewritten(network)(torch.randn(1, 1, 4, 4))
    assert seen == [(1, 1, 4, 4) if place == 0 else (1, 1, 2, 2)]
    hook.remove()
    assert rewritten(network) is not network


# --- in the engine -------------------------------------------------------------------------------


def small() -> nn.Sequential:
    """An AlexNet's parts, small."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Linear(288, 64), nn.ReLU(), nn.Dropout(), Guard(), nn.Linear(64, 3),
    )  # fmt: skip


def train(
    kind: type[Eager], data: Dataset, precision: str = "fp32", micro_batch: int | None = None,
    most: int = PLENTY,
) -> tuple[Metrics, Metrics, dict[str, Tensor]]:  # fmt: skip
    """Four steps and a test; ``most``: the images that there is memory for."""
    network = small()
    recipe = Recipe(name="t", network="t", batch_size=16, lr=0.1).but(precision=precision)
    engine = kind(Job(network, recipe, data.train, data.test, CPU, micro_batch))
    guard = guard_of(engine)
    guard.most = most
    tally, _ = engine.train(Epoch(1, torch.arange(60), 16), 0, 4, Metrics())
    guard.most = PLENTY
    return tally, engine.evaluate(), network.state_dict()


@needs_onednn
@pytest.mark.usefixtures("by_onednn")
@pytest.mark.parametrize("micro_batch", [None, 5])
def test_the_engine_learns_what_the_eager_one_does(micro_batch: int | None, tiny: Dataset) -> None:
    found, expected = (train(kind, tiny, micro_batch=micro_batch) for kind in (Cpu, Eager))
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
    assert found[2].keys() == expected[2].keys()
    for name, value in found[2].items():
        torch.testing.assert_close(value, expected[2][name], rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(bool(why_unsupported("bf16", CPU)), reason="no instructions for bfloat16 here")
def test_in_bf16_the_bits_are_the_eager_engines(tiny: Dataset) -> None:
    found, expected = (train(kind, tiny, "bf16") for kind in (Cpu, Eager))
    assert found[:2] == expected[:2]
    assert all(torch.equal(value, expected[2][name]) for name, value in found[2].items())


@needs_onednn
@pytest.mark.usefixtures("by_onednn")
def test_falling_back_is_as_starting_with_that_split(tiny: Dataset) -> None:
    fell, started = train(Cpu, tiny, most=8), train(Cpu, tiny, micro_batch=8)
    assert fell[:2] == started[:2]
    assert all(torch.equal(value, started[2][name]) for name, value in fell[2].items())
