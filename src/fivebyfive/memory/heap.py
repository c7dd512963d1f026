"""What a training's tensors span in the heap of the C library, holes included.

The engines let glibc keep large buffers in its heap (``engines/allocator.py``), where a freed
buffer leaves a hole. The next one takes the smallest hole that holds it, or else lies on top; and
holes stay apart where something small has come to lie between them, as PyTorch's records of every
operation do until the step is over. So a step spans more than it ever holds at once: AlexNet's 1.3
to 1.8 times as much. This replays who takes and gives back how much, in order.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field

#: Where chunks begin, in bytes, and what lies between two of them.
_ALIGNMENT, _SMALL = 64, 512


@dataclass
class Heap:
    """Chunks of memory by address, from 0 to ``top``; only the free ones are listed."""

    top: int = 0
    _free: list[tuple[int, int]] = field(default_factory=list)  # address and size, in order

    def replay(self, history: Iterable[tuple[int, int]]) -> None:
        """Take and give back as a :attr:`.TensorLifetimes.history` tells.

        What is still taken at its end stays so.
        """
        taken: dict[int, tuple[int, int]] = {}
        small = []
        for number, wanted in history:
            if not wanted:
                self._join(*taken.pop(number))
                continue
            size = -(-wanted // _ALIGNMENT) * _ALIGNMENT
            address, _ = taken[number] = self._take(size, self._smallest(size))
            if chunk := self._behind(address + size):
                small.append(chunk)
        for chunk in small:
            self._join(*chunk)

    def _behind(self, end: int) -> tuple[int, int] | None:
        """Something small right behind a chunk, unless something is there already."""
        place = bisect.bisect(self._free, (end, 0))
        if place < len(self._free) and self._free[place][0] == end:
            return self._take(min(_SMALL, self._free[place][1]), place)
        return self._take(_SMALL, None) if end == self.top else None

    def _smallest(self, size: int) -> int | None:
        """The free chunk that holds ``size`` with the least to spare."""
        fitting = (n for n, (_, free) in enumerate(self._free) if free >= size)
        return min(fitting, key=lambda n: self._free[n][1], default=None)

    def _take(self, size: int, place: int | None) -> tuple[int, int]:
        """From a free chunk, or else on top."""
        if place is not None:
            address, free = self._free.pop(place)
            if free > size:
                self._free.insert(place, (address + size, free - size))
            return address, size
        address = self.top
        if self._free and sum(self._free[-1]) == self.top:  # it grows into the top
            address, _ = self._free.pop()
        self.top = address + size
        return address, size

    def _join(self, address: int, size: int) -> None:
        """Make a chunk free, one with its neighbours where they are free."""
        place = bisect.bisect(self._free, (address, 0))
        if place < len(self._free) and self._free[place][0] == address + size:
            size += self._free.pop(place)[1]
        if place and sum(self._free[place - 1]) == address:
            place -= 1
            address, before = self._free.pop(place)
            size += before
        self._free.insert(place, (address, size))
