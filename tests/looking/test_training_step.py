from __future__ import annotations

import pytest
import torch
from torch import nn

from fivebyfive import networks
from fivebyfive.looking.training_step import measure


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
    step = measure(network, (1, 28, 28), batch_size)
    assert step.need.activations == really_kept(network, torch.rand(batch_size, 1, 28, 28))


def test_batch_norm_at_one_image_is_spared():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    one, four = (measure(network, (1, 2, 2), size) for size in (1, 4))
    assert four.flops == 4 * one.flops
    assert one.need.activations > 0
    assert network[2].training


def test_a_network_with_nothing_to_train():
    step = measure(nn.Flatten(), (1, 2, 2), 2)
    assert (step.flops, step.need.activations) == (0, 0)
