"""Inputs of every kind: computed right, left to PyTorch, or refused with PyTorch's own error."""

import pytest
import torch
from torch import nn

from fivebyfive import networks
from fivebyfive.kernels.accelerate import accelerate

from .comparing import accelerated, assert_same_values, block


def test_non_contiguous(passes):
    flat = block(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4))
    images = block(nn.ReLU(), nn.MaxPool2d(2))
    for network in (images, flat):
        assert_same_values(network, torch.rand(5, 9, 9, 2).permute(0, 3, 1, 2))
        assert_same_values(
            network.to(memory_format=torch.channels_last), torch.rand(5, 2, 18, 9)[:, :, ::2]
        )
    assert len(passes) == 2  # for what comes out flat: the others have a layout that shows


@pytest.mark.parametrize("make", [torch._neg_view, lambda t: torch._efficientzerotensor(t.shape)])
def test_numbers_that_do_not_lie_in_memory_as_they_are(make):
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    x, upstream = torch.randn(5, 4), torch.randn(5, 3)
    found = []
    fast = accelerated(network)
    for each, of in ((fast, make), (network, lambda t: make(t).clone())):
        out = each(of(x))
        out.backward(of(upstream))
        found.append([out, each[0].weight.grad, each[0].bias.grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(passes, dtype):
    network = block(nn.Sigmoid()).to(dtype)
    x = torch.rand(2, 2, 5, 5, dtype=dtype)
    assert torch.equal(accelerated(network)(x), network(x))
    assert not passes


def test_wrong_dtype_is_pytorchs_error():
    network = accelerate(block())
    with pytest.raises(RuntimeError, match="type"):
        network(torch.rand(2, 2, 5, 5, dtype=torch.float64))


def test_autocast(passes):
    network = block(nn.ReLU())
    x = torch.rand(2, 2, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert accelerate(network)(x).dtype == torch.bfloat16
    assert not passes


def test_empty_batch(passes):
    assert accelerate(block(nn.Tanh()))(torch.rand(0, 2, 5, 5)).shape == (0, 3, 3, 3)
    assert not passes


def test_wrong_shape_is_pytorchs_error():
    with pytest.raises(RuntimeError, match="channels"):
        accelerate(block())(torch.rand(1, 3, 9, 9))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        accelerate(networks.build("lenet"))(torch.rand(1, 1, 32, 32))


def test_kernel_larger_than_the_padded_image_is_pytorchs_error():
    with pytest.raises(RuntimeError, match="Kernel size"):
        accelerate(block())(torch.rand(1, 2, 2, 9))
    with pytest.raises(RuntimeError, match=r"[Oo]utput size"):
        accelerate(block(nn.MaxPool2d(3)))(torch.rand(1, 2, 4, 4))
