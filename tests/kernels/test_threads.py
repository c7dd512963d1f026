"""Several threads of the caller's own use one network at once."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import nn

from fivebyfive import networks
from fivebyfive.kernels.accelerate import accelerate
from fivebyfive.kernels.fused_chain import FusedChain

from .comparing import Network, accelerated, block, images


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
    network = accelerate(networks.build("lenet"))
    x = torch.rand(40, 1, 28, 28)
    with torch.no_grad():
        expected = network(x)
    found: list[bool] = []

    def work() -> None:
        with torch.no_grad():
            found.extend(torch.equal(network(x), expected) for _ in range(20))

    at_once(4, work)
    assert len(found) == 80
    assert all(found)


def test_a_workspace_is_taken_by_one_thread_only(passes: list[Any]) -> None:
    class Gone(list[Any]):
        """The moment in which another thread takes it."""

        def __len__(self) -> int:
            return 1

    network = accelerate(block())
    x = torch.rand(2, 2, 5, 5)
    expected = network(x).detach()
    chain = passes[-1]._module
    assert isinstance(chain, FusedChain)
    chain.spare = Gone()
    assert torch.equal(network(x), expected)


def test_several_threads_may_come_first(tolerances: ModuleType) -> None:
    network = Network(lambda network, x: network.body(x))
    expected, call = network(images()), nn.Module.__call__
    with switching_often():
        for _ in range(5):
            fast, found = accelerated(network), []
            at_once(8, lambda: found.append(fast(images())))  # noqa: B023
            assert len(found) == 8
            most = tolerances.at_most(tolerances.LENET_DEPTH)
            assert all(torch.allclose(one, expected, atol=most) for one in found)
    assert nn.Module.__call__ is call
