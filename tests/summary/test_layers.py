from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fivebyfive import networks
from fivebyfive.kernels.library import report
from fivebyfive.lib.errors import NetworkError, RecipeError, ShapeError
from fivebyfive.summary.layers import describe

# As the notes that this project reproduces print them (the first for LeNet, the second, with a
# capital and a blank more, for AlexNet).
LENET = """\
Conv2d output shape:\t torch.Size([1, 6, 28, 28])
Sigmoid output shape:\t torch.Size([1, 6, 28, 28])
AvgPool2d output shape:\t torch.Size([1, 6, 14, 14])
Conv2d output shape:\t torch.Size([1, 16, 10, 10])
Sigmoid output shape:\t torch.Size([1, 16, 10, 10])
AvgPool2d output shape:\t torch.Size([1, 16, 5, 5])
Flatten output shape:\t torch.Size([1, 400])
Linear output shape:\t torch.Size([1, 120])
Sigmoid output shape:\t torch.Size([1, 120])
Linear output shape:\t torch.Size([1, 84])
Sigmoid output shape:\t torch.Size([1, 84])
Linear output shape:\t torch.Size([1, 10])"""

ALEXNET = """\
Conv2d Output shape: \t torch.Size([1, 96, 54, 54])
ReLU Output shape: \t torch.Size([1, 96, 54, 54])
MaxPool2d Output shape: \t torch.Size([1, 96, 26, 26])
Conv2d Output shape: \t torch.Size([1, 256, 26, 26])
ReLU Output shape: \t torch.Size([1, 256, 26, 26])
MaxPool2d Output shape: \t torch.Size([1, 256, 12, 12])
Conv2d Output shape: \t torch.Size([1, 384, 12, 12])
ReLU Output shape: \t torch.Size([1, 384, 12, 12])
Conv2d Output shape: \t torch.Size([1, 384, 12, 12])
ReLU Output shape: \t torch.Size([1, 384, 12, 12])
Conv2d Output shape: \t torch.Size([1, 256, 12, 12])
ReLU Output shape: \t torch.Size([1, 256, 12, 12])
MaxPool2d Output shape: \t torch.Size([1, 256, 5, 5])
Flatten Output shape: \t torch.Size([1, 6400])
Linear Output shape: \t torch.Size([1, 4096])
ReLU Output shape: \t torch.Size([1, 4096])
Dropout Output shape: \t torch.Size([1, 4096])
Linear Output shape: \t torch.Size([1, 4096])
ReLU Output shape: \t torch.Size([1, 4096])
Dropout Output shape: \t torch.Size([1, 4096])
Linear Output shape: \t torch.Size([1, 10])"""


def of(name: str, **options):
    architecture = networks.get(name)
    with torch.device("meta"):
        network = architecture.build()
    return describe(network, architecture.input, **options)


def test_lenet_as_the_notes_print_it():
    assert of("lenet").as_book() == LENET


def test_alexnet_as_the_notes_print_it():
    assert of("alexnet").as_book("Output shape: ") == ALEXNET


class Tutorial(nn.Module):
    """The ConvNet as the tutorial writes it."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 3)
        self.fc1, self.fc2 = nn.Linear(20 * 10 * 10, 500), nn.Linear(500, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2, 2)
        x = F.relu(self.conv2(x))
        x = x.view(x.size(0), -1)
        x = F.relu(self.fc1(x))
        return F.log_softmax(self.fc2(x), dim=1)


def test_functions_are_shown_too():
    rows = describe(Tutorial(), (1, 28, 28)).rows
    names = "conv1 relu max_pool2d conv2 relu view fc1 relu fc2 log_softmax"
    assert [row.name for row in rows] == names.split()
    assert [row.output_shape for row in rows[1:6]] == [
        (1, 10, 24, 24),
        (1, 10, 12, 12),
        (1, 20, 10, 10),
        (1, 20, 10, 10),
        (1, 2000),
    ]


@pytest.mark.parametrize(
    ("name", "mega_flops"), [("lenet", 2.264), ("convnet", 7.686), ("alexnet", 5561)]
)
def test_training_flops_of_the_known_networks(name, mega_flops):
    assert of(name).flops_training / 1e6 == pytest.approx(mega_flops, rel=3e-4)


@pytest.mark.parametrize("name", networks.names())
def test_every_named_network_adds_up(name):
    layers = of(name, batch_size=4, optimizer="adam")
    architecture = networks.get(name)
    assert layers.parameters == architecture.parameters
    assert sum(row.parameters for row in layers.rows) == architecture.parameters
    weights = 4 * architecture.parameters
    with torch.device("meta"):
        buffers = sum(b.nbytes for b in architecture.build().buffers())  # batch norm's statistics
    memory = layers.memory
    assert (memory.weights, memory.gradients) == (weights + buffers, weights)
    assert memory.optimizer == 2 * weights
    assert memory.images == 4 * 4 * torch.Size(architecture.input).numel()
    assert (
        memory.total
        == 4 * weights + buffers + memory.activations + memory.images + memory.workspace
    )
    assert layers.rows[0].input_shape == (1, *architecture.input)
    assert layers.rows[-1].output_shape == (1, 10)


@pytest.mark.parametrize("name", networks.names())
def test_json_is_plain(name):
    values = of(name, batch_size=2).as_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["memory"]["total"] == sum(
        values["memory"][part]
        for part in ("weights", "gradients", "optimizer", "activations", "images", "workspace")
    )


def test_the_network_stays_as_it_is():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten())
    network.train()
    network[1].eval()  # a frozen batch norm
    state = {name: (id(t), t.clone()) for name, t in network.state_dict(keep_vars=True).items()}
    torch.manual_seed(3)
    random_state, python_state = torch.get_rng_state(), random.getstate()

    describe(network, (1, 8, 8), batch_size=3)

    assert [m.training for m in network.modules()] == [True, True, False, True, True]
    after = network.state_dict(keep_vars=True)
    for name, (identity, value) in state.items():
        assert id(after[name]) == identity
        assert torch.equal(after[name], value)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in network.modules())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert random.getstate() == python_state


def test_a_failure_leaves_the_network_as_it_is_too():
    network = networks.build("lenet").eval()
    first = network[0].weight
    with pytest.raises(ShapeError):
        describe(network, (3, 28, 28))
    assert not any(module.training for module in network.modules())
    assert network[0].weight is first
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in network.modules())


def test_frozen_weights_have_no_gradients():
    network = networks.build("lenet")
    for parameter in network[0].parameters():
        parameter.requires_grad = False
    memory = describe(network, (1, 28, 28), optimizer="adam").memory
    assert memory.gradients == 4 * (61_706 - 156)
    assert memory.optimizer == 2 * memory.gradients


def test_the_networks_own_precision_counts():
    memory = describe(networks.build("lenet").double(), (1, 28, 28)).memory
    assert memory.weights == 8 * 61_706
    assert memory.images == 8 * 784


@settings(deadline=None, max_examples=15)
@given(channels=st.integers(1, 4), side=st.integers(9, 20), batch=st.integers(1, 5))
def test_one_convolution_by_the_formula(channels, side, batch):
    layers = describe(nn.Conv2d(channels, 6, 5), (channels, side, side), batch_size=batch)
    (row,) = layers.rows
    values = 6 * (side - 4) ** 2
    assert row.flops == layers.flops_forward == 2 * values * channels * 25
    assert layers.flops_training == 2 * row.flops  # no gradient for the images
    assert row.activation_bytes == 4 * values
    assert layers.memory.activations == 0  # all it keeps is the images and the weights
    assert row.receptive_field == (5, 5)


def test_a_wrong_number_of_features_names_both_and_the_shape_that_fits():
    with pytest.raises(ShapeError) as caught:
        describe(networks.build("lenet"), (1, 32, 32))
    message = str(caught.value)
    for part in ("1x32x32", "'7' (Linear)", "expects 400", "got 576", "--input 1x28x28"):
        assert part in message


def test_wrong_channels_name_both():
    with pytest.raises(ShapeError, match=r"3x28x28.*expects 1 channel and got 3.*--input 1x28x28"):
        describe(networks.build("convnet"), (3, 28, 28))


def test_too_small_an_image_is_said_in_pytorchs_words():
    with torch.device("meta"):
        network = networks.build("alexnet")
    with pytest.raises(ShapeError, match=r"1x28x28.*'5' \(MaxPool2d\) failed.*--input 1x224x224"):
        describe(network, (1, 28, 28))


@pytest.mark.parametrize("shape", [(28, 28), (1, 0, 28), (1, 1, 28, 28)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ShapeError, match="channels, height and width"):
        describe(networks.build("lenet"), shape)


def test_batch_size_and_optimizer_are_checked():
    with pytest.raises(RecipeError, match="batch_size is 0"):
        describe(networks.build("lenet"), (1, 28, 28), batch_size=0)
    with pytest.raises(RecipeError, match=r"'lion'; expected one of adam, sgd"):
        describe(networks.build("lenet"), (1, 28, 28), optimizer="lion")


def test_lazy_layers_are_refused():
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    with pytest.raises(NetworkError, match=r"'1.weight' isn't decided yet"):
        describe(lazy, (1, 8, 8))


def test_a_table_brings_nothing_to_draw_with() -> None:
    code = "import sys, fivebyfive as fbf; fbf.layers('lenet'); print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_runs_in_the_kernels_is_told_and_json_has_it():
    found = describe(nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.Dropout()), (1, 8, 8))
    coverage = json.loads(json.dumps(found.as_dict()))["coverage"]
    assert (coverage["kernel_layers"], coverage["layers"], coverage["whole"]) == (0, 2, False)
    assert "in the kernels on a CPU: none of 2 layers; in PyTorch: " in str(found)
    if report().active:
        assert [each["name"] for each in coverage["refusals"]] == ["0", "1"]
        assert coverage["refusals"][1] == {"name": "1", "type": "Dropout", "reason": "no kernel"}
