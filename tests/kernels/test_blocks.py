"""Every drawn block gives, forward and backward, what PyTorch gives in float64."""

import itertools

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

from fivebyfive.kernels.accelerate import accelerate
from fivebyfive.kernels.blocks import Block, shapes
from fivebyfive.kernels.library import usable

from .comparing import accelerated
from .drawing import ACTIVATIONS, blocks, distance, gradients, ordinary, unrounded
from .rounding import UNIT, measure

# 200 shapes in all, spread over the instruction sets.
EXAMPLES = -(-200 // len(usable()))
SHARED = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def compare(network, shape, seed, passes):
    """With ordinary numbers: every error is one that rounding may make."""
    passes.clear()
    x, out_grad = ordinary(network, shape, seed)
    yardstick = measure(network, x, out_grad)
    assume(yardstick.undecided.sum() <= 1 + yardstick.undecided.numel() / 100)
    found = gradients(network, x, yardstick.out_grad, torch.float32, accelerated=True)
    assert passes, "the kernels were not used"
    for a, b, size in zip(found, yardstick.exact, yardstick.magnitudes, strict=True):
        assert a.shape == b.shape
        assert ((a.double() - b).abs() <= UNIT * size).all()
        # And, unless all of a tensor's sums cancel to less than a hundredth:
        assert size.max() > 100 * b.abs().max() or distance(a, b) < 1e-5


def compare_unrounded(network, shape, seed, passes):
    """With numbers whose sums are exact: every tie and kink is met, and decided alike."""
    passes.clear()
    x = unrounded(network, shape, seed)
    out_grad = 0.5 + torch.rand(network(x).shape, generator=torch.Generator().manual_seed(seed))
    found = gradients(network, x, out_grad, torch.float32, accelerated=True)
    expected = gradients(network, x, out_grad, torch.float64)
    assert passes, "the kernels were not used"
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert distance(a, b) < 1e-5
    with torch.no_grad():
        assert torch.equal(accelerated(network)(x), found[0])


@settings(max_examples=EXAMPLES, **SHARED)
@given(blocks())
def test_blocks_compute_what_pytorch_computes(isa, passes, drawn):
    compare(*drawn, passes)


@settings(max_examples=EXAMPLES, **SHARED)
@given(blocks())
def test_blocks_decide_as_pytorch_does_at_ties_and_kinks(isa, passes, drawn):
    compare_unrounded(*drawn, passes)


WIDTHS = st.integers(1, 70)


@settings(max_examples=20, **SHARED)
@given(WIDTHS, WIDTHS, st.booleans(), st.sampled_from(ACTIVATIONS), WIDTHS, st.integers(0, 2**31))
def test_a_linear_layer_computes_what_pytorch_computes(
    isa, passes, inputs, outputs, bias, activation, n, seed
):
    layers = [nn.Linear(inputs, outputs, bias), *([activation()] if activation else [])]
    compare(nn.Sequential(*layers), (n, inputs), seed, passes)


@settings(max_examples=20, **SHARED)
@given(
    st.lists(WIDTHS, min_size=2, max_size=4),
    st.sampled_from(ACTIVATIONS),
    WIDTHS,
    st.integers(0, 2**31),
)
def test_linear_layers_compute_what_pytorch_computes(isa, passes, widths, activation, n, seed):
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), *([activation()] if activation else [])]
    compare_unrounded(nn.Sequential(*layers), (n, widths[0]), seed, passes)


def test_chains_of_blocks_and_layers_compute_what_pytorch_computes(isa, passes):
    network = nn.Sequential(
        nn.Conv2d(3, 7, 3, padding=1), nn.Tanh(), nn.AvgPool2d(3, 2),
        nn.Conv2d(7, 5, 2, padding=1), nn.Sigmoid(),
        nn.Conv2d(5, 4, 1), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(4 * 3 * 4, 33), nn.Tanh(), nn.Linear(33, 3, bias=False),
    )  # fmt: skip
    compare_unrounded(network, (35, 3, 13, 15), 0, passes)


@pytest.mark.parametrize("shape", [(3, 2, 1, 7), (3, 2, 7, 1), (1, 2, 1, 1)])
def test_parts_of_a_kernel_may_never_meet_the_image(isa, passes, shape):
    compare_unrounded(nn.Sequential(nn.Conv2d(2, 3, 5, padding=2)), shape, 0, passes)


@pytest.mark.parametrize("layer", [nn.Sigmoid(), nn.Tanh(), nn.ReLU()])
def test_activations_are_exact_to_a_few_units_in_the_last_place(isa, layer):
    x = torch.cat([torch.linspace(-20, 20, 20001), torch.logspace(-30, 4, 2001)]).view(-1, 1)
    # Five times the same: four values are worked out together, the fifth alone.
    identity = nn.Sequential(nn.Linear(1, 5, bias=False), layer)
    nn.init.ones_(identity[0].weight)
    with torch.no_grad():
        found, expected = accelerate(identity)(x), layer(x.double())
    error = (found.double() - expected).abs() / expected.abs().clamp(min=1e-30)
    assert error.max() < 4e-7


@pytest.mark.parametrize("layer", [nn.Sigmoid(), nn.Tanh(), nn.ReLU()])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30])
def test_nan_and_infinity_come_through_activations(isa, layer, value):
    network = nn.Sequential(nn.Linear(1, 5, bias=False), layer)
    nn.init.ones_(network[0].weight)
    x = torch.tensor([[0.5], [value]])
    with torch.no_grad():
        torch.testing.assert_close(accelerated(network)(x), network(x), equal_nan=True)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.MaxPool2d(3, 2)])
@pytest.mark.parametrize("activation", [nn.Identity(), nn.ReLU()])
def test_nan_comes_through_blocks_where_pytorch_has_it(isa, pool, activation):
    kinds = [activation] if isinstance(activation, nn.ReLU) else []
    network = nn.Sequential(nn.Conv2d(1, 2, 3), *kinds, pool)
    x = torch.randn(3, 1, 12, 12)
    x[1, 0, 5, 5] = float("nan")
    out_grad = torch.ones_like(network(x))
    found = gradients(network, x, out_grad, torch.float32, accelerated=True)
    expected = gradients(network, x, out_grad, torch.float32)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True, rtol=1e-4, atol=1e-5)


def test_the_first_of_equal_maxima_gets_the_gradient(isa):
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.MaxPool2d(3, 2))
    nn.init.ones_(network[0].weight)
    x = torch.zeros(2, 1, 7, 7)
    out_grad = torch.arange(1.0, 19.0).view(2, 1, 3, 3)
    found = gradients(network, x, out_grad, torch.float32, accelerated=True)
    expected = gradients(network, x, out_grad, torch.float32)
    assert torch.equal(found[1], expected[1])


def test_shapes_that_do_not_fit_are_told():
    chain = [Block((2, 1, 5, 5), pooling="max", pool=(2, 2)), Block((3, 8))]
    assert shapes(chain, (1, 8, 8)) == [(1, 8, 8), (8,), (3,)]
    assert shapes(chain, (1, 4, 8)) is None
    assert shapes(chain, (1, 5, 8)) is None
    assert shapes(chain, (2, 8, 8)) is None
    assert shapes(chain, (1, 10, 10)) is None
