"""Dropout is drawn by image: a pure function of its place, and as random as PyTorch's."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import warnings
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fivebyfive import engines, networks
from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.dropout import DropoutByImage, dropped, keys, may_drop
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.interface import Epoch, Job, Metrics
from fivebyfive.recipes import Recipe

CPU = torch.device("cpu")
KEY = 1234567890123456789


def run(forward: Callable[[Tensor], Tensor], images: Tensor, x: Tensor, epoch: int = 1) -> Tensor:
    with DropoutByImage(0, epoch, images):
        return forward(x)


# --- the hash ------------------------------------------------------------------------------------


def test_known_values_never_change() -> None:
    # Results of old runs can be had again only as long as these hold, on every device.
    mask = dropped(KEY, torch.tensor([0, 1, 59999]), 16, 0.5)
    assert ["".join("01"[each] for each in row) for row in mask.tolist()] == [
        "1011001001111000",
        "1001110111010000",
        "1101110111101111",
    ]


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**63 - 1), st.sampled_from([0.05, 0.2, 0.5, 0.8, 0.99]))
def test_the_share_that_is_dropped(key: int, p: float) -> None:
    off = (dropped(key, torch.arange(200), 1000, p).double() - p) / math.sqrt(p * (1 - p))
    assert abs(off.mean()) < 6 / math.sqrt(off.numel())
    for dim in (0, 1):  # nor are some units, or some images, dropped more often than others
        shares = off.mean(dim) * math.sqrt(off.shape[dim])
        assert abs(shares.pow(2).mean() - 1) < 7 * math.sqrt(2 / len(shares))


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 2**63 - 1))
def test_neighbours_are_independent(key: int) -> None:
    """Units, images, rectangles of both, and keys that follow each other."""
    x, other = (dropped(k, torch.arange(256), 256, 0.5).float() * 2 - 1 for k in (key, key ^ 1))
    products = [x * other]
    for distance in (1, 2, 7, 64):
        a, b = x[:, distance:] * x[:, :-distance], x[distance:] * x[:-distance]
        products += [a, b, a[distance:] * a[:-distance]]
    for product in products:
        assert abs(product.mean()) < 6 / math.sqrt(product.numel())


def test_images_anywhere_and_many_units() -> None:
    images = torch.tensor([3, 2**40, 0])
    wide = dropped(KEY, images, 3_000_000, 0.5)
    assert wide.shape == (3, 3_000_000)
    assert torch.equal(wide[2:, :7], dropped(KEY, images[2:], 7, 0.5))
    assert dropped(KEY, images[:0], 7, 0.5).shape == (0, 7)
    assert dropped(KEY, images, 0, 0.5).shape == (3, 0)


# --- in place of PyTorch's -----------------------------------------------------------------------

LAYERS: list[tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = [
    (nn.Dropout(0.3), (8, 5, 6)),
    (nn.Dropout(0.3, inplace=True), (8, 40)),
    (lambda x: F.dropout(x, 0.3), (8, 40)),
    (lambda x: torch.dropout(x, 0.3, True), (8, 40)),
    (lambda x: torch.dropout(x, p=0.3, train=True), (8, 40)),
    (nn.Dropout1d(0.3), (8, 30, 4)),
    (nn.Dropout2d(0.3), (8, 30, 3, 2)),
    (nn.Dropout3d(0.3), (8, 30, 2, 2, 2)),
    (lambda x: torch.feature_dropout(x, 0.3, True), (8, 30, 2)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_neither_order_nor_splitting_matters(
    layer: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    images = torch.tensor([5, 3, 9, 0, 77, 4, 1, 2])
    x = torch.rand(shape) + 0.5
    whole = run(layer, images, x.clone())
    shuffled = torch.randperm(8)
    assert torch.equal(run(layer, images[shuffled], x[shuffled].clone()), whole[shuffled])
    for part in torch.arange(8).split(3):
        assert torch.equal(run(layer, images[part], x[part].clone()), whole[part])
    assert not torch.equal(run(layer, images, x.clone(), epoch=2), whole)
    kept = whole != 0
    torch.testing.assert_close(whole[kept], x[kept] / 0.7)
    if len(shape) > 2 and not isinstance(layer, nn.Dropout):  # whole channels
        channels = kept.flatten(2)
        assert torch.equal(channels.any(2), channels.all(2))
    assert 0 < kept.float().mean() < 1


def test_each_dropout_of_a_forward_is_another() -> None:
    ones = torch.ones(4, 500)
    with DropoutByImage(0, 1, torch.arange(4)):
        first, second = F.dropout(ones), F.dropout(ones)
    assert 0.4 < (first == second).float().mean() < 0.6


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**40), st.integers(1, 1000), st.integers(1, 5))
def test_the_epoch_may_lie_on_the_device(seed: int, epoch: int, calls: int) -> None:
    images, ones = torch.tensor([5, 3, 59999]), torch.ones(3, 40)
    ways: list[int | Tensor] = [epoch, keys(seed, epoch, calls)]
    masks = []
    for way in ways:
        with DropoutByImage(seed, way, images):
            masks.append([F.dropout(ones, 0.3) for _ in range(calls)])
            if way is not epoch:  # there is no key for a dropout more
                with pytest.raises(IndexError):
                    F.dropout(ones)
    assert all(map(torch.equal, *masks))


def test_gradients_pass_where_values_did() -> None:
    x = torch.rand(4, 50, requires_grad=True)
    y = run(nn.Dropout(0.25), torch.arange(4), x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(y != 0, 1 / 0.75, 0.0))


@pytest.mark.parametrize(
    "forward",
    [
        nn.Dropout().eval(),
        nn.Dropout(0.0),
        nn.Dropout(1.0),
        lambda x: F.dropout(x, 0.5, False),
        lambda x: F.dropout(x, 0.0, inplace=True),
        lambda x: F.dropout(x, 1.0, inplace=True),
        lambda x: F.dropout(x.T, 0.5),  # its first dimension isn't the images
        lambda x: F.alpha_dropout(x, 0.5, True),
    ],
)
def test_the_rest_is_left_to_pytorch(forward: Callable[[Tensor], Tensor]) -> None:
    results = []
    for images in (torch.arange(4), torch.arange(4, 8)):
        torch.manual_seed(0)
        results.append(run(forward, images, torch.ones(4, 30)))
    torch.manual_seed(0)
    expected = forward(torch.ones(4, 30))
    assert all(torch.equal(result, expected) for result in results)


def test_errors_and_unbatched_inputs_are_pytorchs() -> None:
    with pytest.raises(ValueError, match="has to be between 0 and 1"):
        run(lambda x: F.dropout(x, 1.5), torch.arange(4), torch.ones(4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(nn.Dropout1d(), torch.arange(4), torch.ones(4, 9)).shape == (4, 9)
    assert run(F.dropout, torch.arange(4), torch.tensor(1.0)).dim() == 0


def test_bfloat16_and_channels_last_stay_what_they_are() -> None:
    x = torch.rand(4, 3, 5, 5).to(torch.bfloat16, memory_format=torch.channels_last)
    y = run(nn.Dropout(), torch.arange(4), x)
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last)


# --- in the engines ------------------------------------------------------------------------------


class Functional(nn.Module):
    """Calls dropout by itself, and has no layer that says so."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(784, 40), nn.Linear(40, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(torch.relu(self.one(x.flatten(1))), 0.4, self.training)
        return self.two(F.dropout(x, 0.1, self.training))  # type: ignore[no-any-return]


class Checkpointed(nn.Module):
    """Computes parts of its forward again in the backward, unless ``reentrant`` is ``None``."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.reentrant, self.first = reentrant, nn.Linear(20, 16)
        self.parts = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Dropout(0.4), nn.Linear(16, 16))
            for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for part in self.parts:
            if self.reentrant is None:
                x = part(x)
            else:
                x = checkpoint(part, x, use_reentrant=self.reentrant)
        return x


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_computes_with_the_same_masks_again(reentrant: bool) -> None:
    x = torch.rand(6, 20)
    found = []
    for network in (Checkpointed(reentrant), Checkpointed(None)):
        # Without checkpoints these are PyTorch's masks, and so they are with them.
        watched = DropoutByImage(0, 1, torch.arange(6)) if network.reentrant is not None else None
        torch.manual_seed(1)
        with watched or contextlib.nullcontext():
            loss = network(x).square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
        found.append([loss.detach(), *(p.grad for p in network.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_dropouts_beside_a_checkpoint_are_drawn_by_image() -> None:
    def forward(x: Tensor) -> Tensor:
        checkpointed: Tensor = checkpoint(F.dropout, x, use_reentrant=False)
        return torch.cat([F.dropout(x, 0.3), checkpointed], 1)

    images, x = torch.tensor([5, 3, 9, 0]), torch.ones(4, 40)
    expected = run(lambda x: F.dropout(x, 0.3), images, x)
    assert torch.equal(run(forward, images, x)[:, :40], expected)


def layered() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.2), nn.Flatten(),
        nn.Linear(864, 30), nn.ReLU(), nn.Dropout(), nn.Linear(30, 3),
    )  # fmt: skip


@pytest.mark.parametrize("kind", engines.ENGINES.values())
@pytest.mark.parametrize("build", [Functional, layered])
def test_splitting_changes_no_mask(
    build: Callable[[], nn.Module], kind: type[Eager], tiny: Dataset, tolerances: ModuleType
) -> None:
    torch.manual_seed(0)
    net = build()
    recipe = Recipe(name="t", network="t", batch_size=16, lr=0.05)
    epoch = Epoch(1, torch.randperm(60), 16)
    results = []
    for micro_batch in (None, 5, 1):
        engine = kind(Job(copy.deepcopy(net), recipe, tiny.train, tiny.test, CPU, micro_batch))
        tally, _ = engine.train(epoch, 0, epoch.steps, Metrics())
        results.append((tally.loss, nn.utils.parameters_to_vector(engine.network.parameters())))
    for (loss, weights), (other_loss, other_weights) in itertools.pairwise(results):
        most = tolerances.of_training(epoch.steps, 16)
        assert other_loss == pytest.approx(loss, rel=most)
        assert (other_weights - weights).abs().max() <= most * weights.abs().max()


def test_only_networks_that_may_drop_are_watched() -> None:
    assert may_drop(Functional())
    assert may_drop(layered())
    watched = {name for name in networks.names() if may_drop(networks.build(name))}
    assert watched == {"alexnet", "nin", "vgg"}


@pytest.mark.parametrize("name", networks.names())
def test_unwatched_networks_draw_nothing(name: str) -> None:
    network = networks.build(name)
    if may_drop(network):
        pytest.skip("is watched")
    images = torch.zeros(2, *networks.get(name).input)
    before = torch.get_rng_state()
    network.train()(images)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", engines.ENGINES.values())
def test_engines_train_networks_with_checkpoints(kind: type[Eager], tiny: Dataset) -> None:
    recipe = Recipe(name="t", network="t", batch_size=16, lr=0.05)
    weights = []
    for reentrant in (True, False):
        network = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), Checkpointed(reentrant))
        nn.init.constant_(network[1].weight, 0.01)
        nn.init.zeros_(network[1].bias)
        engine = kind(Job(network, recipe, tiny.train, tiny.test, CPU))
        engine.train(Epoch(1, torch.arange(60), 16), 0, 4, Metrics())
        weights.append(nn.utils.parameters_to_vector(network.parameters()))
    assert weights[0].isfinite().all()
    torch.testing.assert_close(*weights)
