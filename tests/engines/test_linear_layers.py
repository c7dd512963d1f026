"""Linear layers by oneDNN: within rounding of float64, and PyTorch's own wherever it must be."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fivebyfive.engines.rewrites import rewritten
from fivebyfive.kernels import products

from .rewriting import gradients, needs_onednn


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
def test_a_weight_that_is_computed_is_computed_once_a_forward() -> None:
    """Each look at it in training is a step of spectral norm's power iteration."""
    torch.manual_seed(0)
    network = nn.Sequential(parametrizations.spectral_norm(nn.Linear(5, 4)))
    other, x = copy.deepcopy(network), torch.randn(6, 5)
    for _ in range(3):
        assert torch.equal(rewritten(network)(x), other(x))


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
    monkeypatch.setattr(products.Path, "read_text", lambda *_, **__: f"vendor_id : {said}\n")
    products.mkl_is_slow.cache_clear()
    assert products.mkl_is_slow() is slow
    monkeypatch.undo()
    products.mkl_is_slow.cache_clear()
