"""Which layout PyTorch would give a result is known from what goes in."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fivebyfive.kernels.accelerate import accelerate
from fivebyfive.kernels.channels_last import convolution
from fivebyfive.kernels.channels_last.layout import settled

SIDES = st.integers(1, 4)


@given(st.tuples(SIDES, SIDES, SIDES, SIDES), st.permutations(range(4)), st.integers(1, 2))
def test_pytorchs_convolution_agrees(shape, order, step):
    """Images of any strides: the axes laid out in any order, and every second value left out."""
    sizes = [shape[axis] * step for axis in order]
    x = torch.rand(sizes).permute([order.index(axis) for axis in range(4)])
    x = x[tuple(slice(None, None, step) for _ in range(4))]
    weight = torch.rand(3, shape[1], 1, 1)
    expected = torch.conv2d(x, weight)
    found = settled(expected.contiguous(memory_format=torch.channels_last), x, weight)
    assert torch.equal(found, expected)
    if expected.shape[0] > 1 and min(expected.shape[2:]) > 1:  # else any strides will do
        assert found.stride() == expected.stride()


@pytest.mark.parametrize("images_last", [False, True])
@pytest.mark.parametrize("weights_last", [False, True])
def test_what_comes_out_lies_as_from_pytorch(monkeypatch, images_last, weights_last):
    monkeypatch.setattr(convolution, "_pays", lambda *_: True)
    network = nn.Sequential(nn.Conv2d(2, 16, 3), nn.Tanh(), nn.Conv2d(16, 16, 3), nn.ReLU())
    if weights_last:
        network.to(memory_format=torch.channels_last)
    x = torch.rand(2, 2, 9, 9)
    x = x.contiguous(memory_format=torch.channels_last) if images_last else x
    expected = network(x)
    found = accelerate(network)(x)
    assert found.stride() == expected.stride()
    torch.testing.assert_close(found, expected)
