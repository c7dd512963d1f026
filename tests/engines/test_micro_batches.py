"""Batches in parts: few, equal and all, with the gradients of the whole; and what is said of it."""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fivebyfive import engines, networks
from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.interface import Job, Metrics
from fivebyfive.engines.micro_batches import in_parts, parts
from fivebyfive.lib.errors import RecipeError

from .guarded import epoch, network, recipe

CPU = torch.device("cpu")


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300))
def test_parts_are_few_equal_and_all(count: int, at_most: int) -> None:
    batch = torch.arange(count)
    split = parts(batch, at_most)
    sizes = [len(part) for part in split]
    assert torch.equal(torch.cat(split), batch)
    assert max(sizes) <= at_most
    assert max(sizes) - min(sizes) <= 1
    assert len(split) == -(-count // at_most)
    number, _, each = (
        in_parts(count, at_most, count).message.split("on ")[1].split(",")[0].split(" ", 2)
    )
    assert int(number) == len(split)
    assert each == " or ".join(map(str, sorted(set(sizes), reverse=True)))


@pytest.mark.parametrize("micro_batch", [1, 3, 5, 16])
def test_gradients_of_parts_are_those_of_the_whole(
    micro_batch: int, tiny: Dataset, tolerances: ModuleType
) -> None:
    """Also in the odd last batch: 60 images are three batches of 16, and one of 12."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.Tanh(), nn.Linear(20, 3))
    exact = copy.deepcopy(net).double()
    engine = Eager(Job(net, recipe(lr=1e-9), tiny.train, tiny.test, CPU, micro_batch))
    each = epoch(tiny)
    for step in (0, each.steps - 1):
        tally, _ = engine.train(each, step, step + 1, Metrics())
        indices = each.batch(step)
        images = tiny.train.images[indices].double() / 255
        exact.zero_grad()
        loss = nn.functional.cross_entropy(exact(images), tiny.train.labels[indices])
        loss.backward()
        assert tally.count == len(indices)
        assert tally.mean_loss == pytest.approx(loss.item(), rel=tolerances.of_sum(16 * 784))
        for mine, theirs in zip(net.parameters(), exact.parameters(), strict=True):
            most = tolerances.at_most(784 + 20 + 16) * theirs.grad.abs().max()
            assert (mine.grad.double() - theirs.grad).abs().max() <= most


@pytest.mark.parametrize(
    ("micro_batch", "message"),
    [
        (0, "micro_batch is 0; expected a whole number of at least 1"),
        (-3, "micro_batch is -3"),
        (2.5, "micro_batch is 2.5"),
        (True, "micro_batch is True"),
        (17, "micro_batch is 17, more than the 16 images of a batch; expected at most 16"),
    ],
)
def test_refuses_what_cant_be(micro_batch: Any, message: str, tiny: Dataset) -> None:
    with pytest.raises(RecipeError, match=message):
        engines.make("eager", Job(network(), recipe(), tiny.train, tiny.test, CPU, micro_batch))


def test_warns_where_batches_are_normalised(tiny: Dataset) -> None:
    engine = engines.make("eager", Job(network(), recipe(), tiny.train, tiny.test, CPU, 4))
    (notice,) = engine.notices()
    assert notice.kind == "batch-statistics"
    assert "now at most 4 instead of 16: that changes its results" in notice.message
    for net, micro_batch in ((network(), None), (networks.build("lenet", classes=3), 4)):
        engine = engines.make("eager", Job(net, recipe(), tiny.train, tiny.test, CPU, micro_batch))
        assert engine.notices() == []
    frozen = network()
    frozen[1].eval()
    job = Job(frozen, recipe(), tiny.train, tiny.test, CPU, 4)
    assert engines.make("eager", job).notices() == []
