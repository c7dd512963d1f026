# ruff: noqa: N806 (X, Y, K and W are the book's names)
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fivebyfive import d2l
from fivebyfive.lib.errors import ShapeError


@settings(deadline=None, max_examples=30)
@given(
    h=st.integers(1, 4), w=st.integers(1, 4), more=st.tuples(st.integers(0, 5), st.integers(0, 5))
)
def test_corr2d_is_a_convolution_layer_without_its_bias(h, w, more):
    X, K = torch.randn(h + more[0], w + more[1]), torch.randn(h, w)
    torch.testing.assert_close(d2l.corr2d(X, K), F.conv2d(X[None, None], K[None, None])[0, 0])


def test_corr2d_by_hand():
    X = torch.arange(9).reshape(3, 3)
    Y = d2l.corr2d(X, torch.tensor([[0, 1], [2, 3]]))
    assert Y.tolist() == [[19, 25], [37, 43]]
    assert Y.dtype == torch.float32


def test_corr2d_can_be_learnt_through():
    K = torch.ones(1, 2, requires_grad=True)
    d2l.corr2d(torch.tensor([[1.0, 2.0, 4.0]]), K).sum().backward()
    assert K.grad.tolist() == [[3.0, 6.0]]


@pytest.mark.parametrize(("x", "k"), [((2, 2), (3, 1)), ((1, 4, 4), (2, 2)), ((4, 4), (2,))])
def test_corr2d_says_which_shapes_came(x, k):
    with pytest.raises(ShapeError, match=r"expected two matrices, K no larger than X"):
        d2l.corr2d(torch.zeros(x), torch.zeros(k))


@pytest.mark.parametrize(
    ("arguments", "shape"), [((3, 3), (4, 3, 7, 6)), ((3, 6, True, 2), (4, 6, 4, 3))]
)
def test_residual_shapes(arguments, shape):
    assert d2l.Residual(*arguments)(torch.rand(4, 3, 7, 6)).shape == shape


def test_residual_adds_its_input():
    block = d2l.Residual(3, 3)
    nn.init.zeros_(block.bn2.weight)  # nothing but the shortcut is left
    X = torch.randn(2, 3, 5, 5)
    assert torch.equal(block(X), F.relu(X))
    names = {name.split(".")[0] for name, _ in block.named_parameters()}
    assert names == {"conv1", "conv2", "bn1", "bn2"}
