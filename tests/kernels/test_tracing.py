"""What a trace doesn't show stays in PyTorch: nothing of it is lost, and nothing is left behind."""

from __future__ import annotations

import contextlib
import gc
import random
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fivebyfive.kernels import tracing
from fivebyfive.kernels.accelerate import accelerate
from fivebyfive.kernels.tracing import trace


class Network(nn.Module):
    """A convolution and a head, with something of the user's own in between."""

    def __init__(self, between: Callable[[Network, Tensor], Tensor]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(27, 4)
        self.between, self.scale, self.calls = between, 1.0, 0
        self.seen: list[Tensor] = []
        self.by_name: dict[str, Tensor] = {}
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.between(self, x))


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 2, 5, 5, generator=torch.Generator().manual_seed(count))


def results(network: nn.Module, *inputs: Any, **named: Any) -> list[Tensor | None]:
    """Output and gradients."""
    network.zero_grad()
    out = network(*inputs, **named)
    out.float().square().sum().backward()
    return [out.detach(), *(p.grad for p in network.parameters())]


def same(network: nn.Module, *inputs: Any, **named: Any) -> None:
    """The twin does what the network does; both draw the same."""
    found = []
    for each in (accelerate(network), network):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        found.append(results(each, *inputs, **named))
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


# --- what a forward does beside computing ---------------------------------------------------------


class Reversed(torch.autograd.Function):
    """A gradient reversal layer, in the ways people write them."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_: Any, grad: Tensor) -> Tensor:
        return -grad


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


@pytest.mark.parametrize(
    "between",
    [
        without_gradients,
        torch.no_grad()(lambda network, x: network.body(x)),
        in_bfloat16,
        never_in_bfloat16,
        lambda network, x: Reversed.apply(network.body(x)),
        lambda network, x: ReversedInPlace.apply(network.body(x)),
        lambda network, x: checkpoint(network.body, x, use_reentrant=False),
        lambda network, x: network.body(x) * (3 if torch.rand(()) < 0.7 else 1),
        lambda network, x: network.body(x) * (3 if random.random() < 0.7 else 1),
        lambda network, x: network.body(x) * (3 if np.random.rand() < 0.7 else 1),
        asking,
    ],
)
@pytest.mark.parametrize("tested_first", [False, True])
def test_what_a_trace_would_lose_stays_in_pytorch(
    between: Callable[[Network, Tensor], Tensor], tested_first: bool
) -> None:
    network = Network(between)
    if tested_first:
        with torch.no_grad():
            accelerate(network)(images())
    assert trace(network) is None
    same(network, images())


def test_random_decisions_are_made_anew_and_tracing_draws_nothing() -> None:
    network = Network(lambda network, x: network.body(x) * (3 if torch.rand(()) < 0.5 else 1))
    twin = accelerate(network)
    torch.manual_seed(0)
    found = [twin(images()) for _ in range(8)]
    torch.manual_seed(0)
    for one in found:
        torch.testing.assert_close(one, network(images()))
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
    network = Network(between)
    twin = accelerate(network)
    with torch.no_grad():
        twin(images(3))
        twin(images(5))
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
    same(network, images())
    same(network, images(), torch.arange(3))
    same(network, images(), y=torch.arange(3))


def test_inputs_that_are_no_tensors(passes: list[Any]) -> None:
    class Scaled(Network):
        def forward(self, x: Tensor, by: Any) -> Any:
            return super().forward(x) * by

    network = Scaled(lambda network, x: network.body(x))
    for by in (2, 0.5, torch.tensor(3.0)):
        same(network, images(), by)
    assert len(passes) == 1  # with the tensor, in one chain from images to scores
    for mask in (None, 2, torch.rand(4)):
        same(Masked(), images(), mask)
    same(Masked(), [images(), images(2)], 2)


# --- what changes later ---------------------------------------------------------------------------


def set_stride(network: Any) -> None:
    network.body[0].stride = (2, 2)
    network.head = nn.Linear(12, 4)


def set_scale(network: Any) -> None:
    network.scale = 3.0


def set_forward(network: Any) -> None:
    network.body[1].forward = torch.abs


def wrap_forward(network: Any) -> None:
    convolve = network.body[0].forward
    network.body[0].forward = lambda x: convolve(x) * 2


def swap(network: Any) -> None:
    network.body[1] = nn.LeakyReLU(0.3)


@pytest.mark.parametrize("change", [set_stride, set_scale, set_forward, wrap_forward, swap])
@pytest.mark.parametrize("later", [False, True])
def test_settings_are_followed(change: Callable[[Any], None], later: bool) -> None:
    network = Network(lambda network, x: network.body(x) * network.scale)
    if later:
        same(network, images())
    twin = accelerate(network)
    change(network)
    torch.testing.assert_close(twin(images()), network(images()), rtol=1e-4, atol=1e-5)
    same(network, images())


def test_what_hangs_on_the_network_is_not_kept_alive() -> None:
    """Were the network itself held by what is known of it, it could never go."""
    network = Network(lambda network, x: network.body(x))
    twin = accelerate(network)
    twin(images())
    gone = weakref.ref(twin)
    del network, twin
    gc.collect()
    assert gone() is None


def test_who_listens_to_all_modules_hears_all() -> None:
    network, seen = nn.Sequential(nn.Linear(3, 2), nn.Tanh()), []
    hook = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
    try:
        accelerate(network)(torch.rand(4, 3))
    finally:
        hook.remove()
    assert seen[:2] == [*network]


# --- several threads ------------------------------------------------------------------------------


@contextlib.contextmanager
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_other_threads_may_compute_while_one_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """While fx traces, it has changed what calling any module does."""
    network = Network(lambda network, x: network.body(x))
    expected, found = network(images()), []

    class Slow(tracing._Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            other = threading.Thread(target=lambda: found.append(network(images())))
            other.start()
            other.join()
            return super().is_leaf_module(m, module_qualified_name)

    monkeypatch.setattr(tracing, "_Tracer", Slow)
    torch.testing.assert_close(accelerate(network)(images()), expected)
    assert len(found) > 3
    assert all(torch.equal(one, expected) for one in found)


def test_several_threads_may_come_first() -> None:
    network = Network(lambda network, x: network.body(x))
    expected, call = network(images()), nn.Module.__call__
    with switching_often():
        for _ in range(5):
            twin, found = accelerate(network), []
            threads = [
                threading.Thread(target=lambda: found.append(twin(images())))  # noqa: B023
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(found) == 8
            assert all(torch.allclose(one, expected, atol=1e-6) for one in found)
    assert nn.Module.__call__ is call
