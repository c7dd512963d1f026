"""The rewritten network computes what the network itself does, and follows what is done to it."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines import rewrites
from fivebyfive.engines.cpu import Cpu
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.precision import lacks
from fivebyfive.engines.rewrites import rewritten
from fivebyfive.engines.work import Epoch, Tally
from fivebyfive.recipes import Recipe

CPU = torch.device("cpu")

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN"
)


@pytest.fixture
def by_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every linear layer counts as large, and MKL as slow, whatever the processor."""
    monkeypatch.setattr(rewrites, "LEAST_WEIGHTS", 1)
    monkeypatch.setattr(rewrites, "mkl_is_slow", lambda: True)


def gradients(network: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor | None]:
    """The output, and the gradients of the input and of the parameters."""
    network.zero_grad()
    x = x.detach().requires_grad_()
    out = network(x.clone())  # a ReLU in place can't start from a leaf
    if out.requires_grad:
        out.backward(upstream)
    return [out.detach(), x.grad, *(p.grad for p in network.parameters())]


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


# --- linear layers -------------------------------------------------------------------------------


@needs_onednn
@pytest.mark.usefixtures("by_onednn")
@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 40),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 70),
    bias=st.booleans(),
    frozen=st.sets(st.sampled_from(["weight", "bias"])),
    layout=st.sampled_from(["plain", "transposed", "strided", "same upstream"]),
    seed=st.integers(0, 1000),
)
def test_products_are_within_rounding_of_float64(
    rows: int, inputs: int, outputs: int, bias: bool, frozen: set[str], layout: str, seed: int
) -> None:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(inputs, outputs, bias))
    for name, parameter in network[0].named_parameters():
        parameter.requires_grad_(name not in frozen)
    x, upstream = torch.randn(rows, inputs), torch.randn(rows, outputs)
    if layout == "transposed":
        x, upstream = torch.randn(inputs, rows).T, torch.randn(outputs, rows).T
    elif layout == "strided":
        x, upstream = torch.randn(rows, 2 * inputs)[:, ::2], torch.randn(rows, 2 * outputs)[:, ::2]
    elif layout == "same upstream":
        upstream = torch.randn(()).expand(rows, outputs)
    faster = rewritten(network)
    assert faster is not network
    found = gradients(faster, x, upstream)
    exact = gradients(copy.deepcopy(network).double(), x.double(), upstream.double())
    # Against the sums of the terms' magnitudes: a sum that cancels can't be near its value.
    magnitudes = copy.deepcopy(network).double()
    for parameter in magnitudes.parameters():
        parameter.data.abs_()
    sizes = gradients(magnitudes, x.double().abs(), upstream.double().abs())
    for one, other, size in zip(found, exact, sizes, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert other is not None
            assert size is not None
            assert ((one - other).abs() <= 1e-6 * size).all()


@needs_onednn
@pytest.mark.usefixtures("by_onednn")
def test_second_derivatives_are_pytorchs() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    x = torch.randn(6, 5, requires_grad=True)
    found = []
    for each in (network, rewritten(network)):
        (first,) = torch.autograd.grad(each(x).square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), [x, *network.parameters()]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@needs_onednn
@pytest.mark.usefixtures("by_onednn")
@pytest.mark.parametrize(
    "x",
    [torch.randn(2, 3, 5), torch.randn(5), torch.randn(0, 5)],
    ids=["three dimensions", "one dimension", "no images"],
)
def test_other_inputs_are_left_to_pytorch(x: Tensor) -> None:
    network = nn.Sequential(nn.Linear(5, 4))
    upstream = torch.ones(*x.shape[:-1], 4)
    for found, expected in zip(
        gradients(rewritten(network), x, upstream), gradients(network, x, upstream), strict=True
    ):
        assert found is not None
        assert expected is not None
        assert torch.equal(found, expected)


@needs_onednn
@pytest.mark.usefixtures("by_onednn")
def test_under_autocast_pytorch_multiplies() -> None:
    network, x = nn.Sequential(nn.Linear(5, 4)), torch.randn(6, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = rewritten(network)(x), network(x)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)


@needs_onednn
@pytest.mark.usefixtures("by_onednn")
def test_what_pytorch_says_of_a_wrong_width_is_said() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        rewritten(nn.Sequential(nn.Linear(5, 4)))(torch.randn(2, 6))


@pytest.mark.usefixtures("by_onednn")
def test_without_onednn_pytorch_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Linear(5, 4))
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert rewritten(network) is network


@pytest.mark.parametrize(
    ("said", "slow"), [("AuthenticAMD", True), ("GenuineIntel", False), ("", False)]
)
def test_mkl_is_slow_on_amd_only(said: str, slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(rewrites.Path, "read_text", lambda *_, **__: f"vendor_id : {said}\n")
    rewrites.mkl_is_slow.cache_clear()
    assert rewrites.mkl_is_slow() is slow
    monkeypatch.undo()
    rewrites.mkl_is_slow.cache_clear()


# --- the network stays the user's ----------------------------------------------------------------


class Own(nn.Module):
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
        Own(),
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


@pytest.mark.usefixtures("by_onednn")
def test_a_weight_that_is_computed_is_computed_once_a_forward() -> None:
    """Each look at it in training is a step of spectral norm's power iteration."""
    torch.manual_seed(0)
    network = nn.Sequential(parametrizations.spectral_norm(nn.Linear(5, 4)))
    other, x = copy.deepcopy(network), torch.randn(6, 5)
    for _ in range(3):
        assert torch.equal(rewritten(network)(x), other(x))


# --- in the engine -------------------------------------------------------------------------------


class Breaks(nn.Module):
    """Memory runs out when more than ``most`` images come."""

    most = 10**6

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise MemoryError("std::bad_alloc")
        return x


def small() -> nn.Sequential:
    """An AlexNet's parts, small."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Linear(288, 64), nn.ReLU(), nn.Dropout(), Breaks(), nn.Linear(64, 3),
    )  # fmt: skip


def train(
    kind: type[Eager], data: Dataset, precision: str = "fp32", micro_batch: int | None = None,
    most: int | None = None,
) -> tuple[Tally, Tally, dict[str, Tensor]]:  # fmt: skip
    """Four steps and a test; ``most``: the images that there is memory for."""
    network = small()
    recipe = Recipe(name="t", network="t", batch_size=16, lr=0.1).but(precision=precision)
    engine = kind(network, recipe, data.train, data.test, CPU, micro_batch)
    breaks = network[7]
    assert isinstance(breaks, Breaks)
    breaks.most = most or Breaks.most
    tally, _ = engine.train(Epoch(1, torch.arange(60), 16), 0, 4, Tally())
    breaks.most = Breaks.most
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


@pytest.mark.skipif(bool(lacks("bf16", CPU)), reason="no instructions for bfloat16 here")
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
