from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from fivebyfive.memory.step import AllocationTracker

DEVICES = ["cpu", "meta"]


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_made_counts_until_it_is_freed(device):
    old = torch.ones(100, device=device)
    with AllocationTracker() as live:
        a = old + 1
        assert live.bytes == 400
        b = a * 2
        assert live.bytes == 800
        del a
        assert live.bytes == 400
        b = b + 1  # both for a moment
        assert live.bytes == 400
    assert live.peak == 800
    del b
    assert live.bytes == 0


@pytest.mark.parametrize("device", DEVICES)
def test_views_and_what_was_there_before_count_nothing(device):
    old = torch.ones(10, 10, device=device)
    with AllocationTracker() as live:
        views = old.t(), old.view(100), old[3], old.detach()
        old.add_(1)
        made = torch.zeros(10, device=device)
        views += (made.view(2, 5),)
    assert live.bytes == live.peak == 40


@pytest.mark.parametrize("device", DEVICES)
def test_a_backward_pass_frees_what_the_forward_kept(device):
    weight = torch.ones(4, 4, device=device, requires_grad=True)
    x = torch.ones(8, 4, device=device)
    with AllocationTracker() as live:
        kept = F.sigmoid(x @ weight)
        total = kept.sum()
        del kept
        assert live.bytes == 8 * 4 * 4 + 4  # the sigmoid's output waits for the backward pass
        total.backward()
        del total
        assert live.bytes == weight.grad.nbytes == 64


def test_the_meta_device_counts_as_the_real_one_does():
    def step(device: str) -> int:
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Conv2d(1, 6, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
            torch.nn.Dropout(), torch.nn.Linear(864, 10),
        ).to(device)  # fmt: skip
        x = torch.empty(16, 1, 28, 28, device=device)
        with AllocationTracker() as live:
            network(x).sum().backward()
        return live.peak

    assert step("meta") == step("cpu")
