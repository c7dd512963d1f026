"""A listener that changes the network in the middle of its training: followed, or told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fivebyfive as fbf
from fivebyfive.datasets.splits import Dataset
from fivebyfive.kernels.library import report
from fivebyfive.lib.errors import NetworkError
from fivebyfive.training import loop
from fivebyfive.training.events import ChunkDone, EpochDone, Event, Noticed

from .test_control import SETTINGS, OneStep


class Scaled(nn.Module):
    """A network with a forward of its own, and a number in it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 5), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(576, 3)
        )
        self.scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * self.scale  # type: ignore[no-any-return]


class Whole(Scaled):
    """Nothing but a chain, as a method says it."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[2](self.layers[1](self.layers[0](x)))
        return self.layers[4](torch.flatten(x, 1))  # type: ignore[no-any-return]


def in_order() -> nn.Sequential:
    return Scaled().layers


class Change:
    """Does something to the network after so many chunks; remembers the notices, and the tests."""

    def __init__(self, what: Callable[[Any], object], network: nn.Module, chunks: int) -> None:
        self._what, self._network, self._left = what, network, chunks
        self.notices: list[Noticed] = []
        self.losses: list[float] = []

    def on(self, event: Event) -> None:
        self._left -= isinstance(event, ChunkDone)
        if isinstance(event, ChunkDone) and self._left == 0:
            self._what(self._network)
        if isinstance(event, Noticed):
            self.notices.append(event)
        if isinstance(event, EpochDone):
            self.losses.append(event.test_loss)

    def close(self) -> None:
        pass


def layers(network: Any) -> Any:
    return network if isinstance(network, nn.Sequential) else network.layers


def freeze(network: Any) -> None:
    layers(network)[0].weight.requires_grad_(False)


def other_activation(network: Any) -> None:
    layers(network)[1] = nn.Tanh()


def without_bias(network: Any) -> None:
    layers(network)[4].bias = None


def other_padding(network: Any) -> None:
    layers(network)[2].kernel_size = 1


def listen(network: Any) -> None:
    layers(network)[1].register_forward_hook(lambda *call: call[-1] * 0.5)


def scale(network: Any) -> None:
    network.scale = 2.0


def put_forward(network: Any) -> None:
    layers(network)[1].forward = torch.tanh


def double(network: Any) -> None:
    for parameter in network.parameters():
        parameter.data = parameter.data * 2


CHANGES = [freeze, other_activation, without_bias, other_padding, listen, put_forward, double]


@pytest.fixture
def train(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[nn.Module, Change]]:
    monkeypatch.setattr(loop, "ChunkSizer", OneStep)

    def train(
        make: Callable[[], nn.Module], what: Callable[[Any], object], engine: str, chunks: int = 4
    ) -> tuple[nn.Module, Change]:
        torch.manual_seed(0)
        network = make()
        change = Change(what, network, chunks)
        name = f"{make.__name__}-{engine}"
        fbf.train(
            network, data=tiny, run=tmp_path / name, engine=engine, listeners=[change], **SETTINGS
        )
        return network, change

    return train


@pytest.mark.parametrize(
    ("make", "what"),
    [
        *((Whole, change) for change in CHANGES),
        *((make, change) for make in (in_order, Scaled) for change in (freeze, other_activation)),
        (Scaled, scale),
    ],
)
def test_what_an_optimizer_follows_is_followed(
    train: Callable[..., tuple[nn.Module, Change]],
    make: Callable[[], nn.Module],
    what: Callable[[Any], object],
) -> None:
    if what is other_padding:  # so that the next layer still fits
        what = lambda network: setattr(layers(network)[0], "padding_mode", "circular")  # noqa: E731
    found, change = train(make, what, "cpu")
    expected, _ = train(make, what, "eager")
    assert [n for n, _ in found.named_parameters()] == [n for n, _ in expected.named_parameters()]
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        assert (one - other).abs().max() < 1e-4 * other.abs().max()
    # Those that are one chain were computed whole in the kernels until then, and it is told; a
    # hook, or a forward put in, may go again, and other numbers are still the same network.
    left = make is not Scaled and what not in (listen, double, put_forward)
    told = left and report().active is not None
    assert [notice.kind for notice in change.notices].count("engine") == told


@pytest.mark.parametrize("engine", ["cpu", "eager"])
@pytest.mark.parametrize("make", [in_order, Scaled])
@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda network: network.half(), r"is torch\.float16 on cpu, and was torch\.float32"),
        (lambda network: network.double(), r"is torch\.float64 on cpu, and was torch\.float32"),
        (
            lambda network: layers(network).__setitem__(0, nn.Conv2d(1, 4, 5)),
            "is another parameter than when the training began",
        ),
    ],
    ids=["half", "double", "another layer"],
)
def test_what_it_does_not_follow_is_an_error(
    train: Callable[..., tuple[nn.Module, Change]],
    make: Callable[[], nn.Module],
    what: Callable[[Any], object],
    words: str,
    engine: str,
) -> None:
    with pytest.raises(NetworkError, match=words):
        train(make, what, engine)


@pytest.mark.parametrize("make", [in_order, Whole])
def test_a_change_after_an_epochs_last_step_counts_in_its_test(
    train: Callable[..., tuple[nn.Module, Change]], make: Callable[[], nn.Module]
) -> None:
    _, found = train(make, other_activation, "cpu", 8)  # of sixty images, eight at a time
    _, expected = train(make, other_activation, "eager", 8)
    assert found.losses == pytest.approx(expected.losses, rel=1e-4)
