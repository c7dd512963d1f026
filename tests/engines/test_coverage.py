"""What the engines say that runs in the kernels, in numbers and in words."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fivebyfive import engines, networks, recipes
from fivebyfive.engines.coverage import Coverage, coverage_of
from fivebyfive.engines.interface import Job
from fivebyfive.engines.precision import why_unsupported
from fivebyfive.kernels.accelerate import Fused
from fivebyfive.kernels.library import report

pytestmark = pytest.mark.skipif(report().active is None, reason="needs the compiled kernels")
CPU = torch.device("cpu")
SHAPE = (1, 28, 28)


def analyse(network, shape):
    device = next(network.parameters()).device
    return Fused(network).analyse(torch.empty(2, *shape, device=device))


def strided() -> nn.Sequential:
    """Of eight layers that compute, only the second convolution and the linear layer fit."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3),
        nn.MaxPool2d(2), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(200, 10),
    )  # fmt: skip


def made(tiny, network: nn.Module, name: str = "cpu", **changes):
    recipe = recipes.get("lenet-d2l").but(**changes)
    return engines.make(name, Job(network, recipe, tiny.train, tiny.test, CPU))


def test_a_whole_step(tiny):
    found = made(tiny, networks.build("lenet")).coverage
    assert found == Coverage(11, 11, (), whole=True)
    assert str(found) == "all 11 layers, the loss and the optimizer"


def test_a_part_of_the_layers(tiny):
    found = made(tiny, strided()).coverage
    assert (found.kernel_layers, found.layers, found.whole) == (3, 8, False)
    assert str(found) == (
        "3 of 8 layers; in PyTorch: Conv2d (stride (2, 2), the kernels have stride 1 only), "
        "BatchNorm2d, Dropout (no kernel), "
        "2 × ReLU (not where the kernels have it: layer, activation, pooling)"
    )


def test_a_perceptron_is_a_whole_step_too(tiny):
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 10))
    found = made(tiny, network).coverage
    assert found == Coverage(3, 3, (), whole=True)


def test_a_loss_that_the_network_does_not_fit():
    found = coverage_of(analyse(networks.build("lenet"), SHAPE), "nll")
    assert (found.kernel_layers, found.layers, found.whole) == (11, 11, False)
    assert str(found).endswith("loss and optimizer (nll, but no log_softmax at the end)")


@pytest.mark.parametrize(
    ("network", "changes", "words"),
    [
        pytest.param(
            networks.build("lenet"),
            {"precision": "bf16"},
            "all (precision bf16, the kernels'",
            marks=pytest.mark.skipif(
                bool(why_unsupported("bf16", CPU)), reason="this processor has no bfloat16"
            ),
        ),
        (nn.Sequential(nn.Linear(28, 10), nn.Flatten()), {}, "Linear (no convolution runs in"),
        (networks.build("lenet").double(), {}, "all (parameters of type float64"),
    ],
)
def test_all_in_pytorch(tiny, network, changes, words):
    if "float64" in words:
        found = coverage_of(analyse(network, SHAPE), "cross-entropy")
    else:
        found = made(tiny, network, **changes).coverage
    assert (found.kernel_layers, found.whole) == (0, False)
    assert str(found).startswith(f"none of {found.layers} layers; in PyTorch: {words}")


def test_other_engines_leave_all_to_pytorch(tiny):
    engine = made(tiny, networks.build("lenet"), "eager")
    assert str(engine.coverage) == "none; PyTorch computes all layers"
    assert engine.workspace(8, training=True) is None


def test_many_reasons_are_cut():
    found = coverage_of(analyse(nn.Sequential(nn.Conv2d(1, 2, 3, stride=2)), SHAPE), "nll")
    many = Coverage(0, 5, tuple(
        type(found.refusals[0])(str(n), f"T{n}", f"reason {n}") for n in range(5)
    ))  # fmt: skip
    assert str(many).endswith("T2 (reason 2), 2 more reasons")


@pytest.mark.parametrize("resize", [None, 28])
def test_the_workspace_is_told_where_the_whole_step_is_in_the_kernels(tiny, resize):
    """Also where the recipe names the size that the images have."""
    engine = made(tiny, networks.build("lenet"), resize=resize, batch_size=32)
    needs = [engine.workspace(count, training=True) for count in (32, 64, 512)]
    assert needs == sorted(set(needs))
    # At least what the backward needs of the first layer: 6 maps of 28×28 floats an image.
    assert needs[0] >= 32 * 6 * 28 * 28 * 4
    assert engine.workspace(16, training=True) is None  # a part of a batch is PyTorch's
    assert 0 < engine.workspace(500, training=False) < needs[2]


def test_resized_images_count(tiny):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 30 * 30, 10))
    engine = made(tiny, network, resize=32, batch_size=32)
    assert engine.workspace(32, training=True) > 32 * 32 * 32 * 4
    assert engine.workspace(32, training=False) is None
