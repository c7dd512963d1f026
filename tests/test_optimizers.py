"""Every optimizer of the registry, and one that is added as CONTRIBUTING says."""

from __future__ import annotations

import copy
import dataclasses
from typing import get_args

import pytest
import torch
from torch import nn

from fivebyfive import engines, networks, recipes
from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.interface import Epoch, Job, Metrics
from fivebyfive.engines.optimizer import make_optimizer
from fivebyfive.kernels.library import report
from fivebyfive.memory.step import measure
from fivebyfive.optimizers import OPTIMIZERS, OptimizerSpec
from fivebyfive.recipes import Recipe

CPU = torch.device("cpu")
RMSPROP = OptimizerSpec("rmsprop", torch_name="RMSprop", usual_lr=0.01, state=1)


@pytest.fixture
def rmsprop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new optimizer: its record, and its name in recipes.py."""
    monkeypatch.setitem(OPTIMIZERS, "rmsprop", RMSPROP)
    setting = recipes.SETTINGS["optimizer"]
    known = dataclasses.replace(setting, choices=(*setting.choices, "rmsprop"))
    monkeypatch.setitem(recipes.SETTINGS, "optimizer", known)


def test_recipes_know_every_record() -> None:
    assert set(get_args(recipes.Optimizer)) == set(OPTIMIZERS)
    assert all(name == spec.name for name, spec in OPTIMIZERS.items())


@pytest.mark.parametrize("name", [*OPTIMIZERS, "rmsprop"])
def test_memory_counts_what_pytorchs_keeps(name: str, rmsprop: None) -> None:
    network = networks.build("lenet")
    optimizer = make_optimizer(name, network, 0.1)
    network(torch.rand(2, 1, 28, 28)).sum().backward()
    optimizer.step()
    kept = [value for state in optimizer.state.values() for value in state.values()]
    numbers = [value for value in kept if isinstance(value, torch.Tensor) and value.dim()]
    memory, _ = measure(network, (1, 28, 28), 2, name)
    assert memory.optimizer == sum(value.nbytes for value in numbers)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("engine", ["eager", "cpu"])
def test_engines_train_with_it(name: str, engine: str, tiny: Dataset, rmsprop: None) -> None:
    """As plain PyTorch does, in the kernels or not."""
    if engine == "cpu" and not report().active:
        pytest.skip("the kernels aren't built here")
    other = "adam" if name == "sgd" else "sgd"
    recipe = Recipe(name="t", network="t", batch_size=20, optimizer=other).but(optimizer=name)
    assert recipe.lr == OPTIMIZERS[name].usual_lr
    torch.manual_seed(0)
    network = networks.build("lenet", classes=3)
    plain = copy.deepcopy(network).double()
    made = engines.make(engine, Job(network, recipe, tiny.train, tiny.test, CPU))
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}
    optimizer = kinds[name](plain.parameters(), lr=recipe.lr)
    assert made.coverage.whole == (engine == "cpu" and name != "rmsprop")
    epoch = Epoch(1, torch.arange(60), 20)
    for step in range(epoch.steps):
        tally, _ = made.train(epoch, step, step + 1, Metrics())
        batch = epoch.batch(step)
        optimizer.zero_grad()
        scores = plain(tiny.train.images[batch].double() / 255)
        loss = nn.functional.cross_entropy(scores, tiny.train.labels[batch])
        loss.backward()
        optimizer.step()
        assert tally.mean_loss == pytest.approx(loss.item(), rel=1e-4)


def test_its_state_goes_into_a_checkpoint_and_back(tiny: Dataset, rmsprop: None) -> None:
    recipe = Recipe(name="t", network="t", batch_size=20).but(optimizer="rmsprop")
    epoch = Epoch(1, torch.arange(60), 20)
    torch.manual_seed(0)
    network = networks.build("lenet", classes=3)
    whole = Eager(Job(copy.deepcopy(network), recipe, tiny.train, tiny.test, CPU))
    first = Eager(Job(copy.deepcopy(network), recipe, tiny.train, tiny.test, CPU))
    expected, _ = whole.train(epoch, 0, 3, Metrics())
    tally, _ = first.train(epoch, 0, 2, Metrics())
    second = Eager(Job(first.network, recipe, tiny.train, tiny.test, CPU))
    second.load_optimizer_state(first.optimizer_state())
    tally, _ = second.train(epoch, 2, 3, tally)
    assert tally == expected
