from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fivebyfive import networks
from fivebyfive.memory.step import AllocationTracker, Memory, measure, measure_test


def really_kept(network: nn.Module, batch: torch.Tensor) -> int:
    """The bytes that a real forward pass keeps, without its weights and images."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train()(batch)
    for known in (batch, *network.parameters(), *network.buffers()):
        kept.pop(known.untyped_storage().data_ptr(), None)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("name", ["lenet", "convnet"])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_what_is_kept_is_what_a_real_run_keeps(name, batch_size):
    network = networks.build(name)
    memory, _ = measure(network, (1, 28, 28), batch_size)
    assert memory.activations == really_kept(network, torch.rand(batch_size, 1, 28, 28))


def test_batch_norm_at_one_image_is_spared():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    one, four = (measure(network, (1, 2, 2), size) for size in (1, 4))
    assert four[1] == 4 * one[1]
    assert one[0].activations > 0
    assert network[2].training


def test_a_network_with_nothing_to_train():
    memory, flops = measure(nn.Flatten(), (1, 2, 2), 2)
    assert (flops, memory.activations, memory.gradients) == (0, 0, 0)


def test_what_lasts_is_counted_by_hand():
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    network[0].bias.requires_grad_(False)
    lasting = Memory.lasting(network, "adam")
    # Weights 12 + 3 and 3 + 3, running mean and variance 3 + 3, a counter of 8 bytes.
    assert lasting.weights == 4 * (15 + 6 + 6) + 8
    assert lasting.gradients == 4 * (12 + 6)
    assert lasting.optimizer == 2 * lasting.gradients
    assert lasting.batch == 0
    assert lasting.total == lasting.weights + 3 * lasting.gradients


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 121, 40), nn.ReLU(), nn.Linear(40, 10),
    )  # fmt: skip


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_the_peak_is_that_of_a_real_step(bf16):
    network = convolutions()
    with AllocationTracker() as live:
        batch = torch.rand(16, 1, 28, 28)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            scores = network(batch)
        scores.sum().backward()
    memory, _ = measure(network, (1, 28, 28), 16, bf16=bf16)
    # The real peak counts gradients as they come; here they count in full.
    assert 0.98 * live.peak <= memory.batch + memory.gradients
    assert memory.batch <= 1.02 * live.peak


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_the_peak_of_a_test_is_that_of_a_real_one(bf16):
    network = convolutions().eval()
    with (
        torch.no_grad(),
        AllocationTracker() as live,
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        network(torch.rand(16, 1, 28, 28))
    assert measure_test(network, (1, 28, 28), 16, bf16=bf16) == pytest.approx(live.peak, 0.02)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_more_images_never_need_less(first, second, bf16):
    less, more = (
        measure(convolutions(), (1, 28, 28), count, bf16=bf16)[0]
        for count in sorted((first, second))
    )
    assert less.total <= more.total
    assert less.activations <= more.activations
