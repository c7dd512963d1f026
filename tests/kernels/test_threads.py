"""Several threads of the caller's own use one network or twin at once."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from fivebyfive import networks
from fivebyfive.kernels import tracing
from fivebyfive.kernels.accelerate import _fused, accelerate
from fivebyfive.kernels.fused_chain import FusedChain

from .twins import Network, block, images


def at_once(count: int, work: Callable[[], object]) -> None:
    """Do the work in as many threads."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_several_threads_of_the_callers_own() -> None:
    twin = accelerate(networks.build("lenet"))
    x = torch.rand(40, 1, 28, 28)
    with torch.no_grad():
        expected = twin(x)
    found: list[bool] = []

    def work() -> None:
        with torch.no_grad():
            found.extend(torch.equal(twin(x), expected) for _ in range(20))

    at_once(4, work)
    assert len(found) == 80
    assert all(found)


def test_a_workspace_is_taken_by_one_thread_only() -> None:
    class Gone(list[Any]):
        """The moment in which another thread takes it."""

        def __len__(self) -> int:
            return 1

    twin = accelerate(block())
    x = torch.rand(2, 2, 5, 5)
    expected = twin(x).detach()
    fused = _fused(twin)
    assert fused is not None
    for chain in fused.modules():
        if isinstance(chain, FusedChain):
            chain.spare = Gone()
    assert torch.equal(twin(x), expected)


def test_several_threads_may_come_first(tolerances: ModuleType) -> None:
    network = Network(lambda network, x: network.body(x))
    expected, call = network(images()), nn.Module.__call__
    with switching_often():
        for _ in range(5):
            twin, found = accelerate(network), []
            at_once(8, lambda: found.append(twin(images())))  # noqa: B023
            assert len(found) == 8
            most = tolerances.at_most(tolerances.LENET_DEPTH)
            assert all(torch.allclose(one, expected, atol=most) for one in found)
    assert nn.Module.__call__ is call


def test_other_threads_may_compute_while_one_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """While fx traces, it has changed what calling any module does."""
    network = Network(lambda network, x: network.body(x))
    expected, found = network(images()), []

    class Slow(tracing._Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            at_once(1, lambda: found.append(network(images())))
            return super().is_leaf_module(m, module_qualified_name)

    monkeypatch.setattr(tracing, "_Tracer", Slow)
    torch.testing.assert_close(accelerate(network)(images()), expected)
    assert len(found) > 3
    assert all(torch.equal(one, expected) for one in found)
