"""Batch normalisation against float64, with what may follow it."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tolerances import of_sum

from fivebyfive.kernels.channels_last import Normalisation, Workspaces, batch_norm

from .operations import both, spread

SHARED = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
MOMENTUM, EPS = 0.1, 1e-5


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(batch_norm, "LEAST_CHANNELS", 1)


def normalised(training=True, relu=False):
    return Normalisation(training, MOMENTUM, EPS, relu, Workspaces())


@settings(max_examples=40, **SHARED)
@given(
    st.tuples(*(st.integers(1, most) for most in (40, 150, 13, 13))).filter(
        lambda shape: shape[0] * shape[2] * shape[3] > 1
    ),
    st.booleans(), st.booleans(), st.booleans(), st.sampled_from((0.0, 3.0, 100.0)),
    st.integers(0, 2**31),
)  # fmt: skip
def test_drawn_shapes(isa, shape, relu, added, affine, mean, seed):
    channels = shape[1]
    x = (spread(*shape, seed=seed) + mean).requires_grad_()
    other = spread(*shape, seed=seed + 1, last=False).requires_grad_() if added else None
    weight = (1 + spread(channels, seed=seed + 2, last=False)).requires_grad_() if affine else None
    bias = spread(channels, seed=seed + 3, last=False).requires_grad_() if affine else None
    running = torch.zeros(channels), torch.ones(channels)
    module = normalised(relu=relu)
    with torch.no_grad():
        kept = module(x, None, None, weight, bias, other) > 0

    def ours(x, weight, bias, other):
        return module(x, *running, weight, bias, other)

    exact_running = torch.zeros(channels).double(), torch.ones(channels).double()

    def plain(x, weight, bias, other):
        statistics = exact_running if x.dtype == torch.float64 else (None, None)
        out = F.batch_norm(x, *statistics, weight, bias, True, MOMENTUM, EPS)
        out = out if other is None else out + other
        return out * kept if relu else out  # where rounding decides, as the kernels did

    found, exact = both(ours, plain, [x, weight, bias, other], seed)
    pixels = x.numel() // channels
    # Each value is a difference from the mean, whose rounding is the mean's, beside the deviation.
    deviation = x.detach().double().transpose(0, 1).flatten(1).std(1, correction=0).min().item()
    for one, other_one in zip(found, exact, strict=True):
        size = max(1.0, other_one.abs().max().item()) * (1 + mean) * max(1.0, 1 / deviation)
        assert (one - other_one).abs().max().item() < 8 * of_sum(pixels + 32) * size
    for one, other_one in zip(running, exact_running, strict=True):
        assert torch.allclose(one.double(), other_one, rtol=1e-5, atol=1e-6 * (1 + mean))


def test_a_test_uses_the_running_statistics(isa):
    x, weight, bias = spread(3, 20, 5, 6, seed=0), torch.rand(20), torch.rand(20)
    running = torch.rand(20), 0.5 + torch.rand(20)
    with torch.no_grad():
        found = normalised(training=False)(x, *running, weight, bias)
    expected = F.batch_norm(x.double(), *(t.double() for t in (*running, weight, bias)), eps=EPS)
    torch.testing.assert_close(found, expected.float())


def test_running_statistics_are_known_to_have_changed():
    running = torch.zeros(20), torch.ones(20)
    before = [t._version for t in running]
    normalised()(spread(3, 20, 5, 6, seed=0), *running, None, None)
    assert [t._version for t in running] > before


def test_gradients_of_gradients_are_pytorchs():
    inputs = [spread(3, 4, 5, 5, seed=0), 1 + torch.rand(4), torch.rand(4)]

    def second(compute, dtype):
        values = [t.to(dtype).requires_grad_() for t in inputs]
        first = torch.autograd.grad(compute(*values).pow(3).sum(), values, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), values)

    found = second(lambda x, w, b: normalised()(x, None, None, w, b), torch.float32)
    exact = second(lambda x, w, b: F.batch_norm(x, None, None, w, b, True), torch.float64)
    for one, other in zip(found, exact, strict=True):
        assert (one - other).abs().max() < 1e-4 * other.abs().max()


def test_one_value_a_channel_is_refused_in_pytorchs_words():
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        normalised()(torch.zeros(1, 20, 1, 1), None, None, None, None)


def test_any_number_of_threads_gives_the_same_bits(isa):
    x, threads, results = spread(9, 40, 10, 7, seed=0), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            mine = x.clone().requires_grad_()
            out = normalised(relu=True)(mine, None, None, None, None)
            results.append([out, *torch.autograd.grad(out.square().sum(), mine)])
    finally:
        torch.set_num_threads(threads)
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))
