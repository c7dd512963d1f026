"""Forwards of people's own: what can't be seen in one piece stays in PyTorch; nothing is lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fivebyfive.kernels.accelerate import Fused, accelerate

from .comparing import Network, assert_same_behaviour, assert_same_values, images
from .kinds import Reversed

# --- what a forward does beside computing ---------------------------------------------------------


class ReversedInPlace(Reversed):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x


def without_gradients(network: Network, x: Tensor) -> Tensor:
    with torch.no_grad():
        features: Tensor = network.body(x)
    return features


def in_bfloat16(network: Network, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return network.body(x).float() * 1  # type: ignore[no-any-return]


def never_in_bfloat16(network: Network, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        features: Tensor = network.body(x)
    return features


def asking(network: Network, x: Tensor) -> Tensor:
    features: Tensor = network.body(x * 2 if isinstance(x, Tensor) else x)
    return features


SWITCHES = "forward turns gradients or autocast on or off"
PARTS = "forward has parts of its own, such as checkpoints or autograd functions"
PIECES = "forward can't be followed in one piece: "


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (without_gradients, SWITCHES),
        (torch.no_grad()(lambda network, x: network.body(x)), SWITCHES),
        (in_bfloat16, SWITCHES),
        (never_in_bfloat16, SWITCHES),
        (lambda network, x: Reversed.apply(network.body(x)), PARTS),
        (lambda network, x: ReversedInPlace.apply(network.body(x)), ""),
        (lambda network, x: checkpoint(network.body, x, use_reentrant=False), PARTS),
        (lambda network, x: network.body(x) * (3 if torch.rand(()) < 0.7 else 1), PIECES),
        (lambda network, x: network.body(x) * (3 if random.random() < 0.7 else 1), PIECES),
        (lambda network, x: network.body(x) * (3 if np.random.rand() < 0.7 else 1), ""),
        (lambda network, x: network.body(x if x.sum() > -1 else -x), PIECES + "Data-dep"),
    ],
)
@pytest.mark.parametrize("tested_first", [pytest.param(False, marks=pytest.mark.slow), True])
def test_what_cannot_be_seen_stays_in_pytorch(
    between: Callable[[Network, Tensor], Tensor], reason: str, tested_first: bool
) -> None:
    network = Network(between)
    if tested_first:
        with torch.no_grad():
            accelerate(network)(images())
    found = Fused(network).analyse(images())
    if reason:
        assert found.refusals[0].reason.startswith(reason)
    assert_same_behaviour(network, images())


@pytest.mark.parametrize(
    "between",
    [
        lambda network, x: network.body(x) * network.steps,
        asking,
        lambda network, x: network.body(x) + torch.rand(1),
        lambda network, x: network.body(x) * network.scale,
    ],
)
def test_what_is_seen_is_computed_in_the_kernels(
    between: Callable[[Network, Tensor], Tensor], passes: list[Any]
) -> None:
    assert_same_behaviour(Network(between), images())
    assert passes


def test_functions_that_print_and_global_lists_are_used_each_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept: list[Any] = []

    def telling(network: Network, x: Tensor) -> Tensor:
        print(tuple(x.shape))
        kept.append(x)
        return network.body(x)  # type: ignore[no-any-return]

    network = accelerate(Network(telling))
    for count in (3, 5, 3):
        network(images(count))
    assert capsys.readouterr().out.split("\n") == [
        "(3, 2, 5, 5)",
        "(5, 2, 5, 5)",
        "(3, 2, 5, 5)",
        "",
    ]
    assert [type(each) for each in kept] == [Tensor] * 3


def test_a_forward_that_cannot_be_traced_stays_in_pytorch(passes: list[Any]) -> None:
    class Branching(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.sum() > 0 else x

    assert_same_values(Branching(nn.Conv2d(2, 2, 3)), torch.rand(1, 2, 5, 5))
    assert not passes


def test_random_decisions_are_made_anew_and_looking_draws_nothing() -> None:
    network = Network(lambda network, x: network.body(x) * (3 if torch.rand(()) < 0.5 else 1))
    accelerate(network)
    torch.manual_seed(0)
    found = [network(images()) for _ in range(8)]
    torch.manual_seed(0)
    for one in found:
        torch.testing.assert_close(one, network.forward(images()))
    assert not all(torch.equal(one, found[0]) for one in found)


def keep(network: Network, x: Tensor) -> Tensor:
    x = network.body(x)
    network.last = x
    return x


def append(network: Network, x: Tensor) -> Tensor:
    x = network.body(x)
    network.seen.append(x)
    network.by_name["body"] = x
    return x


def count(network: Network, x: Tensor) -> Tensor:
    network.calls += 1
    return network.body(x)  # type: ignore[no-any-return]


def count_in_a_buffer(network: Network, x: Tensor) -> Tensor:
    network.steps += 1
    return network.body(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("between", [keep, append, count, count_in_a_buffer])
def test_what_a_forward_keeps_is_kept_each_time_and_once(
    between: Callable[[Network, Tensor], Tensor],
) -> None:
    network = accelerate(Network(between))
    with torch.no_grad():
        network(images(3))
        network(images(5))
    lengths = {keep: [5], append: [3, 5], count: [], count_in_a_buffer: []}[between]
    kept = [network.last] if between is keep else network.seen
    assert [len(each) for each in kept] == lengths  # tensors, and not what stood for them
    assert network.calls == 2 * (between is count)
    assert network.steps == 2 * (between is count_in_a_buffer)
    assert [len(each) for each in network.by_name.values()] == [5] * (between is append)


# --- what a forward takes -------------------------------------------------------------------------


class Loss(Network):
    """Gives scores or, with labels, the loss."""

    def __init__(self) -> None:
        super().__init__(lambda network, x: network.body(x))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        x = super().forward(x)
        return x if y is None else F.cross_entropy(x, y)


class Masked(Network):
    """Takes what may be ``None``, a number or a tensor."""

    def __init__(self) -> None:
        super().__init__(lambda network, x: network.body(x))

    def forward(self, x: Tensor, mask: Any) -> Any:
        x = super().forward(torch.cat(x) if isinstance(x, list) else x)
        return x if mask is None else x * mask


def test_inputs_that_may_be_left_out() -> None:
    network = Loss()
    assert_same_behaviour(network, images())
    assert_same_behaviour(network, images(), torch.arange(3))
    assert_same_behaviour(network, images(), y=torch.arange(3))


def test_inputs_that_are_no_tensors(passes: list[Any]) -> None:
    class Scaled(Network):
        def forward(self, x: Tensor, by: Any) -> Any:
            return super().forward(x) * by

    network = Scaled(lambda network, x: network.body(x))
    for by in (2, 0.5, torch.tensor(3.0)):
        assert_same_behaviour(network, images(), by)
    assert passes
    for mask in (None, 2, torch.rand(4)):
        assert_same_behaviour(Masked(), images(), mask)
    assert_same_behaviour(Masked(), [images(), images(2)], 2)


def test_a_call_that_fails_does_not_keep_later_ones_from_the_kernels(passes: list[Any]) -> None:
    network = accelerate(Network(lambda network, x: network.body(x)))
    for _ in range(3):
        with pytest.raises(RuntimeError, match="channels"):
            network(torch.rand(2, 3, 5, 5))
    assert not passes
    network(images())
    assert passes


def test_a_forward_that_is_another_each_time_is_left_to_pytorch_in_the_end() -> None:
    network = accelerate(Network(lambda network, x: network.body(x) * network.scale))
    for number in range(12):
        network.scale = float(number)
        torch.testing.assert_close(network(images()), network.forward(images()))


def test_where_dynamo_is_switched_off_pytorch_computes_once() -> None:
    network = accelerate(Network(count))
    with torch.compiler.set_stance("force_eager"):
        network(images())
    assert network.calls == 1
    network = Network(lambda network, x: network.body(x))
    with torch.compiler.set_stance("force_eager"):
        refusal = Fused(network).analyse(images()).refusals[0].reason
    assert "TorchDynamo is switched off" in refusal
