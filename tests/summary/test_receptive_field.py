from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from fivebyfive.summary.receptive_field import UNKNOWN, WHOLE, Field, behind, merged
from fivebyfive.summary.trace import trace

SIDE = 64


def seen(network: nn.Module) -> tuple[int, int]:
    """The height and width of what the middle output value depends on, by its gradient."""
    image = torch.ones(1, 1, SIDE, SIDE, requires_grad=True)
    output = network(image)
    output[0, 0, output.shape[2] // 2, output.shape[3] // 2].backward()
    rows, columns = image.grad[0, 0].nonzero().T
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


convolutions = st.builds(
    lambda kernel, stride, dilation: nn.Conv2d(1, 1, kernel, stride, dilation=dilation),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 2),
    st.integers(1, 2),
)
poolings = st.builds(nn.AvgPool2d, st.integers(1, 3), st.sampled_from([None, 1, 2]))


@settings(deadline=None, max_examples=30)
@given(st.lists(convolutions | poolings, min_size=1, max_size=4))
def test_the_size_is_what_gradients_show(stack):
    network = nn.Sequential(*stack)
    for parameter in network.parameters():
        nn.init.ones_(parameter)
    try:
        network(torch.ones(1, 1, SIDE, SIDE))
    except RuntimeError:  # the images are too small for so much pooling
        assume(False)
    field = trace(network, (1, SIDE, SIDE))[-1].receptive_field
    if all(size <= 24 for size in field):  # beyond, a gap or an edge may cut it
        height, width = seen(network)
        assert height <= field[0]
        assert width <= field[1]
        if all(getattr(layer, "dilation", (1, 1)) == (1, 1) for layer in stack) and _gapless(stack):
            assert (height, width) == field


def _gapless(stack) -> bool:
    """Whether no window is smaller than its stride, which would leave pixels unseen."""
    for layer in stack:
        kernel, stride = layer.kernel_size, layer.stride
        least = min(kernel) if isinstance(kernel, tuple) else kernel
        most = max(stride) if isinstance(stride, tuple) else stride
        if least < most:
            return False
    return True


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: F.max_pool2d(x, 3), Field((3, 3), (3, 3))),
        (lambda x: F.max_pool2d(x, kernel_size=2, stride=1), Field((2, 2), (1, 1))),
        (lambda x: F.avg_pool2d(x, (2, 4)), Field((2, 4), (2, 4))),
        (lambda x: F.adaptive_avg_pool2d(x, 12), Field((1, 1), (1, 1))),
        (lambda x: F.adaptive_avg_pool2d(x, (4, 6)), Field((3, 2), (3, 2))),
        (lambda x: F.adaptive_max_pool2d(x, 5), Field((4, 4), (2, 2))),
        (lambda x: F.adaptive_max_pool2d(x, 1), WHOLE),
        (lambda x: x.mean(1), Field()),
        (lambda x: x.mean((2, 3)), WHOLE),
        (lambda x: F.linear(x, torch.ones(3, 12)), Field()),
        (lambda x: F.linear(x.flatten(1), torch.ones(3, 144)), WHOLE),
        (lambda x: x @ x, WHOLE),
        (lambda x: F.relu(F.interpolate(x, scale_factor=2)), UNKNOWN),
        (lambda x: F.conv2d(input=x, weight=torch.ones(1, 1, 3, 1)), Field((3, 1), (1, 1))),
    ],
)
def test_functions(function, expected):
    class Net(nn.Module):
        def forward(self, x):
            return function(x)

    row = trace(Net(), (1, 12, 12))[-1]
    assert (row.receptive_field, row.effective_stride) == (expected.size, expected.effective_stride)


def test_merging_takes_the_larger_and_the_unmeasured():
    tall, wide = Field((5, 1), (2, 1)), Field((1, 7), (1, 4))
    assert merged([tall, wide]) == Field((5, 7), (2, 4))
    assert merged([tall, UNKNOWN]) == UNKNOWN
    assert merged([UNKNOWN, WHOLE]) == WHOLE


def test_what_was_mixed_stays_mixed():
    x = torch.ones(1, 1, 4, 4)
    assert behind("conv2d", (x, torch.ones(1, 1, 3, 3)), {}, x, [WHOLE]) == WHOLE
    assert UNKNOWN.through((3, 3), (1, 1)) == UNKNOWN


def test_in_print():
    assert [str(f) for f in (Field((5, 5)), Field((3, 1)), WHOLE)] == ["5", "3×1", "all"]
