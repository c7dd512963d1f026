"""Convolutions by minimal filtering against float64, over drawn shapes."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fivebyfive.kernels.channels_last import Convolution, Workspaces, convolution

from .operations import assert_close, both, spread

SHARED = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """The kernels compute whatever they can, however few channels and tiles there are."""
    monkeypatch.setattr(convolution, "LEAST_CHANNELS", 1)
    monkeypatch.setattr(convolution, "_pays", lambda *_: True)


@pytest.fixture
def runs(monkeypatch):
    """One entry for each use of the library."""
    made = []
    original = Convolution.run
    monkeypatch.setattr(
        Convolution, "run", lambda self, *a, **k: made.append(1) or original(self, *a, **k)
    )
    return made


@st.composite
def shapes(draw):
    kernel = draw(st.sampled_from((3, 5)))
    padding = draw(st.integers(0, kernel - 1))
    least = max(1, kernel - 2 * padding)
    height, width = (draw(st.integers(least, least + 11)) for _ in range(2))
    inputs, outputs = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    return draw(st.integers(1, 70)), inputs, outputs, height, width, kernel, padding


@settings(max_examples=40, **SHARED)
@given(shapes(), st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 2**31))
def test_drawn_shapes(isa, runs, shape, bias, relu, images_last, weights_last, seed):
    count, inputs, outputs, height, width, kernel, padding = shape
    runs.clear()
    x = spread(count, inputs, height, width, seed=seed, last=images_last).requires_grad_()
    weight = spread(outputs, inputs, kernel, kernel, seed=seed + 1, last=weights_last)
    given_bias = spread(outputs, seed=seed + 2, last=False).requires_grad_() if bias else None
    module = Convolution((1, padding, 1, 1), relu, Workspaces())

    def plain(x, weight, bias=None):
        out = torch.conv2d(x, weight, bias, padding=padding)
        return _kept(out) if relu else out

    # Where rounding decides whether a ReLU passes anything, it is the kernels' decision.
    signs = torch.conv2d(x, weight, given_bias, padding=padding).detach()

    def _kept(out):
        positive = module(x, weight, given_bias).detach() > 0 if relu else signs > 0
        return out * positive

    found, exact = both(module, plain, [x, weight.requires_grad_(), given_bias], seed)
    assert runs
    pixels = count * exact[0].shape[2] * exact[0].shape[3]
    terms = [inputs * kernel**2, outputs * kernel**2, pixels, pixels]
    for one, other, size in zip(found, exact, terms, strict=False):
        assert_close(one, other, size)
    assert found[0].is_contiguous(memory_format=torch.channels_last)


def test_a_relu_clears_what_is_negative(isa):
    x, weight = spread(2, 16, 9, 9, seed=0), spread(16, 16, 3, 3, seed=1)
    found = Convolution((1, 1, 1, 1), True, Workspaces())(x, weight)
    plain = Convolution((1, 1, 1, 1), False, Workspaces())(x, weight)
    assert torch.equal(found, plain.relu())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_reaches_every_output_that_it_should(isa, value):
    x, weight = spread(1, 16, 8, 8, seed=0), spread(16, 16, 3, 3, seed=1)
    x[0, 3, 4, 4] = value
    for relu in (False, True):
        found = Convolution((1, 1, 1, 1), relu, Workspaces())(x, weight)
        expected = F.conv2d(x, weight, padding=1)
        assert not found[~expected.isfinite()].isfinite().any() or relu
        assert not found.isfinite().all()


def test_any_number_of_threads_gives_the_same_bits(isa):
    x, weight = spread(9, 33, 10, 7, seed=0), spread(20, 33, 3, 3, seed=1)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            inputs = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
            out = Convolution((1, 1, 1, 1), True, Workspaces())(*inputs)
            results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    finally:
        torch.set_num_threads(threads)
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


def test_gradients_of_gradients_are_pytorchs():
    inputs = [spread(2, 3, 6, 6, seed=0), spread(4, 3, 3, 3, seed=1), spread(4, seed=2, last=False)]
    module = Convolution((1, 1, 1, 1), True, Workspaces())

    def second(compute, dtype):
        values = [t.to(dtype).requires_grad_() for t in inputs]
        out = compute(*values)
        first = torch.autograd.grad(out.square().sum(), values, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), values)

    found = second(module, torch.float32)
    exact = second(lambda x, w, b: F.conv2d(x, w, b, padding=1).relu(), torch.float64)
    for one, other in zip(found, exact, strict=True):
        assert (one - other).abs().max() < 1e-5 * other.abs().max()


@pytest.mark.parametrize(
    "settings",
    [(2, 1, 1, 1), (1, 1, 2, 1), (1, 1, 1, 2), (1, (0, 1), 1, 1), (1, 3, 1, 1), (1, "same", 1, 1)],
    ids=str,
)
def test_other_settings_are_left_to_pytorch(settings, runs):
    groups = settings[3]
    x, weight = spread(2, 16, 9, 9, seed=0), spread(16, 16 // groups, 3, 3, seed=1)
    found = Convolution(settings, False, Workspaces())(x, weight)
    torch.testing.assert_close(found, torch.conv2d(x, weight, None, *settings))
    assert not runs


@pytest.mark.parametrize(
    ("shapes", "error"),
    [
        (((2, 15, 9, 9), (16, 16, 3, 3), (16,)), "to have 16 channels"),
        (((2, 16, 9, 9), (16, 16, 3, 3), (15,)), "bias"),
        (((2, 16, 1, 1), (16, 16, 5, 5), (16,)), "Kernel size can't be greater"),
    ],
)
def test_what_does_not_fit_is_refused_in_pytorchs_words(shapes, error):
    images, weight, bias = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(RuntimeError, match=error):
        Convolution((1, 1, 1, 1), False, Workspaces())(images, weight, bias)


def test_what_is_saved_may_not_be_changed_before_the_backward():
    x, weight = spread(2, 16, 9, 9, seed=0), spread(16, 16, 3, 3, seed=1).requires_grad_()
    out = Convolution((1, 1, 1, 1), False, Workspaces())(x, weight)
    x += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
