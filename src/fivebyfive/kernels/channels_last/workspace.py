"""Memory that the kernels work in, kept from call to call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor

from ..blocks import empty


class Workspaces:
    """What the operations of one network work in, one after the other.

    Fresh memory at every call would cost as much as some of the computing. A thread that finds
    another at work gets its own.
    """

    def __init__(self) -> None:
        self._spare: list[Tensor] = []

    @contextlib.contextmanager
    def borrow(self, floats: int) -> Iterator[Tensor]:
        """Memory for so many floats, whatever is in it."""
        try:
            memory = self._spare.pop()
        except IndexError:
            memory = empty(0)
        if len(memory) < floats:
            del memory  # before there is a second one
            memory = empty(floats)
        yield memory
        if not self._spare:
            self._spare.append(memory)

    def forget(self) -> None:
        """Let go of what isn't in use."""
        self._spare.clear()
