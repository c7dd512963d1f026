"""Max-pooling gives PyTorch's values and gradients, bit for bit."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fivebyfive.kernels.channels_last import MaxPool, max_pool

from .operations import spread

SHARED = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(max_pool, "LEAST_CHANNELS", 1)


@settings(max_examples=60, **SHARED)
@given(st.data())
def test_drawn_shapes(isa, data):
    kernel, stride = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    padding = data.draw(st.integers(0, kernel // 2))
    height, width = (data.draw(st.integers(kernel, 14)) for _ in range(2))
    count, channels = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 150))
    ceil_mode, last = data.draw(st.booleans()), data.draw(st.booleans())
    # Coarse numbers tie; some are none, and windows may hold nothing greater than -inf.
    x = spread(count, channels, height, width, seed=data.draw(st.integers(0, 2**31)), last=last)
    x = x.round()
    x[0, 0, height // 2] = data.draw(st.sampled_from((float("nan"), float("-inf"), 0.0)))
    x = x.requires_grad_()
    found = MaxPool(kernel, stride, padding, ceil_mode)(x)
    expected = F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode)
    assert torch.equal(found.nan_to_num(nan=77.0), expected.nan_to_num(nan=77.0))
    out_grad = torch.randn_like(expected)
    (one,), (other,) = (torch.autograd.grad(y, x, out_grad) for y in (found, expected))
    # Several windows may have taken a value: their gradients are added up in another order.
    torch.testing.assert_close(one, other, rtol=0, atol=4 * 25 * 2.0**-24)


def test_gradients_of_gradients_are_pytorchs():
    x = spread(2, 20, 6, 6, seed=0).requires_grad_()

    def second(compute):
        (first,) = torch.autograd.grad(compute(x).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    assert torch.equal(second(MaxPool(2, 2, 0, False)), second(lambda x: F.max_pool2d(x, 2)))


def test_a_padding_beyond_half_the_window_is_refused_in_pytorchs_words():
    with pytest.raises(RuntimeError, match="at most half of"):
        MaxPool(2, 2, 2, False)(spread(1, 16, 6, 6, seed=0))
