"""Which layers the kernels find and run, however a forward is written; PyTorch runs the others."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from fivebyfive import networks

from .comparing import accelerated, assert_same_values, block


@pytest.mark.parametrize("name", ["lenet", "convnet"])
@pytest.mark.parametrize("batch", [1, 17, 96])
def test_named_networks(passes, name, batch):
    """On numbers so coarse that the convolutions' sums are exact in float32.

    Then every maximum and every ReLU is decided alike, whatever order a processor adds up in.
    """
    torch.manual_seed(batch)
    network = networks.build(name)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_((64 * parameter).round() / 64)
    assert_same_values(network, torch.randint(9, (batch, 1, 28, 28)) / 8)
    assert passes


def test_flat_images_work_as_with_the_network_itself(passes):
    assert_same_values(networks.build("lenet"), torch.rand(5, 784))
    assert passes


def test_what_cannot_be_fused_runs_in_between(passes):
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 3),
    )  # fmt: skip
    assert_same_values(network, torch.rand(9, 2, 12, 12), tolerance=1e-4)
    assert len(passes) == 2


@pytest.mark.parametrize(
    "network",
    [
        block(nn.MaxPool2d(2, ceil_mode=True)),
        block(nn.MaxPool2d(2, dilation=2)),
        block(nn.MaxPool2d(2, padding=1)),
        block(nn.AvgPool2d(2, padding=1)),
        block(nn.AvgPool2d(2, divisor_override=3)),
        block(nn.MaxPool2d((2, 3))),
        block(nn.MaxPool2d(4)),
        block(nn.ReLU(inplace=True), nn.AvgPool2d(2, ceil_mode=True)),
    ],
    ids=str,
)
def test_poolings_the_kernels_do_not_know_stay_in_pytorch(passes, network):
    assert_same_values(network, torch.rand(3, 2, 9, 9))
    assert passes  # the convolution still runs in the kernels


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2}, {"dilation": 2}, {"padding": 3}, {"padding": "same"}, {"padding": (1, 0)},
        {"padding": 1, "padding_mode": "reflect"},
    ],
    ids=str,
)  # fmt: skip
def test_convolutions_the_kernels_do_not_know_stay_in_pytorch(passes, options):
    assert_same_values(block(**options), torch.rand(3, 2, 9, 9))
    assert not passes


def test_groups_and_other_dimensions_stay_in_pytorch(passes):
    assert_same_values(
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.ReLU()), torch.rand(3, 4, 9, 9)
    )
    assert_same_values(
        nn.Sequential(nn.Conv1d(4, 4, 3), nn.ReLU(), nn.MaxPool1d(2)), torch.rand(3, 4, 9)
    )
    assert_same_values(
        nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.MaxPool3d(2)), torch.rand(3, 1, 6, 6, 6)
    )
    assert_same_values(block(nn.ReLU()), torch.rand(2, 9, 9))  # one image without a batch
    assert_same_values(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.rand(2, 5, 4))
    assert not passes


def test_a_linear_layer_on_unflattened_images_is_not_taken_for_a_flat_one():
    assert_same_values(block(nn.Linear(7, 4), nn.ReLU()), torch.rand(2, 2, 9, 9))


def test_a_bias_that_is_spread_over_the_outputs():
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    network[0].bias = nn.Parameter(torch.ones(1))
    assert_same_values(network, torch.rand(5, 4))


def test_a_module_used_twice_and_shared_parameters():
    linear = nn.Linear(6, 6)
    assert_same_values(nn.Sequential(linear, nn.Tanh(), linear, nn.Tanh()), torch.rand(3, 6))
    other = nn.Linear(6, 6)
    other.weight = linear.weight
    assert_same_values(nn.Sequential(linear, nn.Tanh(), other), torch.rand(3, 6))
    convolution = nn.Conv2d(2, 2, 3, padding=1)
    assert_same_values(nn.Sequential(convolution, nn.ReLU(), convolution), torch.rand(3, 2, 5, 5))


@pytest.mark.parametrize(
    "functional",
    [
        lambda x: F.avg_pool2d(torch.relu(x), 2),
        lambda x: F.max_pool2d(x.tanh(), (2, 2), 2),
        lambda x: F.max_pool2d(F.relu(x), kernel_size=2, stride=(1, 2)),
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.avg_pool2d(x, 2, count_include_pad=False),
        lambda x: F.avg_pool2d(input=x, kernel_size=2),
        lambda x: torch.flatten(x, 1),
        lambda x: x.view(x.size(0), -1),
        lambda x: x.view(-1, 3 * 7 * 7),
        lambda x: x.view(-1, 7),
        lambda x: x.reshape(x.shape[0], -1),
        lambda x: x.sigmoid() + x,
    ],
)
def test_functional_forms(passes, functional):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)

        def forward(self, x):
            return functional(self.conv(x))

    assert_same_values(Network(), torch.rand(3, 2, 9, 9))
    assert passes


class View(nn.Module):
    """A tutorial's network whose view may or may not keep one row an image."""

    def __init__(self, width):
        super().__init__()
        self.conv, self.fc, self.width = nn.Conv2d(1, 4, 3), nn.Linear(width, 5), width

    def forward(self, x):
        return self.fc(F.relu(self.conv(x)).view(-1, self.width))


@pytest.mark.parametrize("width", [4 * 6 * 6, 2 * 6 * 6, 8 * 6 * 6])
def test_a_view_of_fixed_width(width):
    assert_same_values(View(width), torch.rand(6, 1, 8, 8))


@pytest.mark.parametrize("size", [lambda y: y.size(0), lambda y: y.size()[0], len])
def test_a_layer_of_which_only_the_size_is_used(size):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)

        def forward(self, x):
            n = size(self.conv(x))
            return x.reshape(n, -1) * n

    network, x = Network(), torch.rand(3, 2, 5, 5)
    assert torch.equal(accelerated(network)(x), network(x))
