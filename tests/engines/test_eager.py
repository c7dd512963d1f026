from __future__ import annotations

import copy
import dataclasses
import itertools
import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fivebyfive import engines, networks, recipes
from fivebyfive.datasets.pixels import Pixels
from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.allocator import keep_large_buffers
from fivebyfive.engines.eager import TEST_BATCH, Eager
from fivebyfive.engines.interface import Epoch, Job, Metrics
from fivebyfive.engines.layout import lay_out
from fivebyfive.engines.optimizer import make_optimizer
from fivebyfive.lib.errors import DeviceError, UnknownNameError
from fivebyfive.lib.randomness import epoch_order
from fivebyfive.memory.step import AllocationTracker
from fivebyfive.recipes import Recipe
from fivebyfive.training.weights import build_seeded

CPU = torch.device("cpu")


class Small(nn.Sequential):
    """An AlexNet's parts, small: strided convolution, ReLU, overlapping max-pooling, dropout."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 8, 5, stride=2, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Flatten(),
            nn.Linear(288, 32),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(32, 3),
        )


def recipe(**changes: object) -> Recipe:
    return Recipe(name="t", network="t", batch_size=16, lr=0.05).but(**changes)


def network(name: str) -> nn.Module:
    torch.manual_seed(3)
    return Small() if name == "small" else networks.build(name, classes=3)


def epoch(data: Dataset, number: int = 1, batch_size: int = 16) -> Epoch:
    return Epoch(number, epoch_order(0, number, len(data.train)), batch_size)


def reference(
    net: nn.Module, r: Recipe, data: Dataset, epochs: int, dtype: torch.dtype
) -> tuple[list[float], nn.Module]:
    """The textbook loop: each epoch's loss, summed over its images, and the network."""
    net = copy.deepcopy(net).to(dtype)
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[r.optimizer]
    optimizer = kind(net.parameters(), lr=r.lr)
    loss_of = {"cross-entropy": F.cross_entropy, "nll": F.nll_loss}[r.loss]
    losses = []
    for number in range(1, epochs + 1):
        each, total = epoch(data, number), 0.0
        for step in range(each.steps):
            indices = each.batch(step)
            images = ((data.train.images[indices].to(dtype) / 255) - r.mean) / r.std
            labels = data.train.labels[indices]
            loss = loss_of(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        losses.append(total)
    return losses, net


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["lenet", "convnet"])
def test_computes_what_the_textbook_loop_computes(name: str, optimizer: str, tiny: Dataset) -> None:
    loss = "nll" if name == "convnet" else "cross-entropy"
    lr = 0.001 if optimizer == "adam" else 0.1
    r = recipe(optimizer=optimizer, lr=lr, loss=loss, mean=0.1307, std=0.3081)
    start = network(name)
    expected, trained = reference(start, r, tiny, 3, torch.float64)
    engine = Eager(Job(copy.deepcopy(start), r, tiny.train, tiny.test, CPU))
    for number, total in enumerate(expected, 1):
        each = epoch(tiny, number)
        tally, _ = engine.train(each, 0, each.steps, Metrics())
        assert tally.count == 60
        assert tally.loss == pytest.approx(total, rel=1e-5, abs=1e-5)
    for mine, theirs in zip(engine.network.parameters(), trained.parameters(), strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["lenet", "convnet", "small"])
def test_where_an_epoch_is_cut_changes_nothing(name: str, tiny: Dataset) -> None:
    results = []
    for cuts in ([0, 4], [0, 1, 2, 3, 4], [0, 3, 4]):
        engine = Eager(Job(network(name), recipe(), tiny.train, tiny.test, CPU))
        tally = Metrics()
        for first, stop in itertools.pairwise(cuts):
            tally, _ = engine.train(epoch(tiny), first, stop, tally)
            engine.evaluate()  # nor does a test in between
            torch.rand(3)  # nor whoever else draws random numbers
        results.append((tally, [p.clone() for p in engine.network.parameters()]))
    for tally, weights in results[1:]:
        assert tally == results[0][0]
        assert all(torch.equal(a, b) for a, b in zip(weights, results[0][1], strict=True))


def test_what_a_forward_draws_differs_between_steps_and_seeds(tiny: Dataset) -> None:
    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))
            self.drawn: list[float] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.drawn.append(torch.rand(()).item())
            return self.weight.expand(len(x), 3)

    drawn = []
    for seed, micro_batch in ((0, None), (0, None), (1, None), (0, 8)):
        spy = Spy()
        engine = Eager(Job(spy, recipe(seed=seed), tiny.train, tiny.test, CPU, micro_batch))
        engine.train(epoch(tiny), 0, 4, Metrics())
        drawn.append(spy.drawn)
    assert len(set(drawn[0])) == 4
    assert drawn[0] == drawn[1]
    assert not set(drawn[0]) & set(drawn[2])
    # The parts of a batch draw other numbers, but the first.
    assert len(set(drawn[3])) == 8
    assert drawn[3][::2] == drawn[0]


def test_the_programs_random_state_is_its_own(tiny: Dataset) -> None:
    engine = Eager(Job(network("small"), recipe(), tiny.train, tiny.test, CPU))
    torch.manual_seed(9)
    expected = torch.rand(4)
    torch.manual_seed(9)
    engine.train(epoch(tiny), 0, 4, Metrics())
    engine.evaluate()
    assert torch.equal(torch.rand(4), expected)


def test_tests_the_whole_split_without_training(tiny: Dataset) -> None:
    net = network("small")
    engine = Eager(Job(net, recipe(resize=None), tiny.train, tiny.test, CPU))
    net.train()
    before = [p.clone() for p in net.parameters()]
    tally = engine.evaluate()
    assert net.training
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    with torch.no_grad():
        scores = net.eval()(Pixels()(tiny.test.images))
    assert tally.count == 20
    assert tally.correct == (scores.argmax(1) == tiny.test.labels).sum()
    assert tally.mean_loss == pytest.approx(F.cross_entropy(scores, tiny.test.labels).item())
    assert tally.accuracy == tally.correct / 20


def test_channels_last_only_where_the_network_takes_it() -> None:
    images = torch.rand(2, 1, 28, 28)

    class Viewing(nn.Module):
        """It uses `view`, which counts on the usual layout."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x.view(x.size(0), -1)

    lenet, viewing, linear = network("lenet"), Viewing(), nn.Linear(3, 3)
    for net in (lenet, viewing):
        lay_out(net.train(), images)
        assert net.training
    lay_out(linear, torch.rand(2, 3))
    assert lenet[3].weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[index]
    assert viewing.conv.weight.is_contiguous()


def test_laying_out_changes_no_weight_that_is_computed() -> None:
    """Each look at it in training is a step of spectral norm's power iteration."""
    network = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 8, 3)))
    before = copy.deepcopy(network.state_dict())
    lay_out(network.train(), torch.rand(2, 1, 28, 28))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_frozen_parts_keep_their_mode_and_a_tested_network_trains(tiny: Dataset) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    net[2].eval()
    engine = Eager(Job(net, recipe(), tiny.train, tiny.test, CPU))
    engine.train(epoch(tiny), 0, 2, Metrics())
    engine.evaluate()
    assert net.training
    assert not net[2].training
    assert net[2].num_batches_tracked == 0
    assert Eager(Job(net.eval(), recipe(), tiny.train, tiny.test, CPU)).network.training


def test_frozen_parameters_stay() -> None:
    net = network("small")
    net[0].weight.requires_grad_(False)  # type: ignore[index]
    optimizer = make_optimizer("sgd", net, 0.1)
    assert len(optimizer.param_groups[0]["params"]) == 5


def test_large_images_are_made_for_a_batch_alone() -> None:
    """At most 200 MB beyond the stored bytes, also for a test's larger batch."""
    stored = torch.zeros(TEST_BATCH, 1, 28, 28, dtype=torch.uint8)
    with AllocationTracker() as live:
        images = Pixels(224, 0.28, 0.35)(stored)
    assert images.shape == (TEST_BATCH, 1, 224, 224)
    assert live.peak <= 200_000_000


def test_the_epochs_batches_are_all_its_images() -> None:
    each = Epoch(1, torch.randperm(50), 16)
    assert each.steps == 4
    assert [len(each.batch(step)) for step in range(4)] == [16, 16, 16, 2]
    assert torch.equal(torch.cat([each.batch(step) for step in range(4)]), each.order)


def test_engines_by_name(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(network("small"), recipe(), tiny.train, tiny.test, CPU)
    assert engines.make("eager", job).name == "eager"
    monkeypatch.setenv("FIVEBYFIVE_KERNELS", "none")
    assert engines.make("auto", job).name == "eager"
    with pytest.raises(DeviceError, match=r"turned off by .*--engine eager runs everywhere"):
        engines.make("cpu", job)
    monkeypatch.delenv("FIVEBYFIVE_KERNELS")
    with pytest.raises(DeviceError, match="the device is cuda"):
        engines.make("cpu", dataclasses.replace(job, device=torch.device("cuda")))
    with pytest.raises(UnknownNameError, match="Did you mean 'eager'"):
        engines.make("eagre", job)


def test_malloc_is_told_once_and_says_whether_it_could_be() -> None:
    assert keep_large_buffers() is keep_large_buffers()


@pytest.mark.parametrize("name", ["cpu", "eager"])
def test_a_stretch_ends_with_the_step_that_diverged(name: str, tiny: Dataset) -> None:
    recipe = recipes.get("convnet-mnist").but(batch_size=7, lr=1e30, optimizer="sgd")
    network = build_seeded(lambda: networks.build("convnet", 1, 3), "default", 0, torch.empty(0))
    engine = engines.make(name, Job(network, recipe, tiny.train, tiny.test, torch.device("cpu")))
    epoch = Epoch(1, torch.arange(60), 7)
    tally, _ = engine.train(epoch, 0, 6, Metrics())
    assert not math.isfinite(tally.loss)
    assert tally.count == 14  # the first step made the weights huge, the second showed it
