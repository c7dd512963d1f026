"""CUDA graphs: work for the device that is recorded once and then sent again as a whole.

Sending an operation takes Python and PyTorch some microseconds, often more than a card takes to do
it. A graph is sent at once. It holds which kernels run, with which numbers, on which memory; so
whatever is to differ from one time to the next has to lie in memory that stays where it is.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import torch

#: Does recorded work again; returns before the device has done it.
Replay = Callable[[], None]

#: Before it records PyTorch waits for the whole card, which fails while another thread records.
_ONE_AT_A_TIME = threading.Lock()


class Graphs(Protocol):
    """A device that can record work and do it again."""

    def stream(self) -> AbstractContextManager[None]:
        """Around all work that has to do with graphs, recorded or not."""

    def capture(self, work: Callable[[], None]) -> Replay:
        """Record what ``work`` would do to the device, which is not done now."""

    def forget(self) -> None:
        """Nothing that was recorded so far will be done again."""


class CudaGraphs:
    """See :class:`Graphs`; ``device`` is a CUDA card."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self.forget()

    def forget(self) -> None:
        """Nothing that was recorded so far will be done again."""
        # PyTorch takes back the memory of graphs that are gone, and doesn't lend it a second time.
        self._pool = torch.cuda.graph_pool_handle()

    @contextlib.contextmanager
    def stream(self) -> Iterator[None]:
        """Work in a stream of its own: the usual one can't be captured.

        What is not captured runs in it, too. So the steps before a capture warm up what it needs,
        all use the same memory, and a failed capture leaves the right stream behind.
        """
        usual = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(usual)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            usual.wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> Replay:
        """Record what ``work`` would do to the device, which is not done now.

        All graphs share one pool of memory, since they run one after another and leave nothing in
        it that is read later.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            # "thread_local": another thread, a listener's for instance, may go on using the card.
            with (
                _ONE_AT_A_TIME,
                torch.cuda.graph(
                    graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
                ),
            ):
                work()
        except BaseException:
            # PyTorch up to 2.11 would take the generator for one in a recording from here on, and
            # refuse to draw from it. A copy of its state isn't in any.
            generator = torch.cuda.default_generators[self._stream.device.index]
            generator.graphsafe_set_state(generator.clone_state())
            raise
        replay: Replay = graph.replay
        return replay
