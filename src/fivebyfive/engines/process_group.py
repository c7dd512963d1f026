"""Several processes that train together: who they are, and what they tell one another.

Whoever starts them, such as torchrun, says in environment variables which of how many a process is.
The first one is the main process: it alone prints and writes. Beside gradients, all
they tell one another are small JSON values in :meth:`ProcessGroup.exchange`, to which each adds its
own. All go through the same exchanges in the same order, so a process that can't go on says so in
place of its next value, and all end together.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import platform
import signal
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from types import FrameType
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from ..lib.errors import FiveByFiveError, ProcessGroupError, RankGoneError

#: How long a process waits for another's gradients, and for one that downloads, tests or writes.
#: One that ends is noticed at once: the system closes its connections.
TIMEOUT, PATIENCE = timedelta(seconds=60), timedelta(minutes=20)

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class ProcessGroup:
    """A process's place among those that train together; by default it is alone.

    Attributes:
        rank: which process this is, from 0 on.
        size: how many there are.
        local_rank: which of those on this machine.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0) -> None:
        self.rank, self.size, self.local_rank = rank, size, local_rank
        self._ending = False

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def exchange(self, value: Any) -> list[Any]:
        """What each process has to say, a JSON value, in the order of their ranks.

        Raises:
            RankGoneError: one of them has ended.
            ProcessGroupError: one of them can't go on; raised by the main process, the others end.
        """
        if self.size == 1:
            return [value]
        said = self._gather({"value": value})
        failed = [each["failure"] for each in said if "failure" in each]
        if failed:
            message, status = failed[0]
            self._end_with(ProcessGroupError(message, status), status)
        return [each["value"] for each in said]

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """In this block what can't be for one can't be for all: the main process says it, all end.

        Raises:
            FiveByFiveError: by the main process, its own or another's as ProcessGroupError.
        """
        try:
            yield
        except (FiveByFiveError, OSError) as error:
            if self.size > 1 and not self._ending:
                status = error.status if isinstance(error, FiveByFiveError) else 1
                place = f"process {self.rank} of {self.size}, on {platform.node()}"
                self._gather({"failure": [f"{place}: {error}", status]})
                self._end_with(error, status)
            raise

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """Let the first process of each machine through the block before its others."""
        if self.local_rank:
            self.exchange(None)
        yield
        if not self.local_rank:
            self.exchange(None)

    def check_same(self, facts: Mapping[str, Any]) -> None:
        """See to it that ``facts``, JSON values by what they are of, are the same for all.

        Raises:
            ProcessGroupError: what differs, and where.
        """
        first, *others = self.exchange(dict(facts))
        for rank, theirs in enumerate(others, start=1):
            for name in {**first, **theirs}:
                if (here := first.get(name)) != (there := theirs.get(name)):
                    raise ProcessGroupError(
                        f"the processes don't train the same: {name} is {here} in process 0 and "
                        f"{there} in process {rank}. Give all of them the same command, the same "
                        f"data and the same versions."
                    )

    def share(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The main process's tensors, by name, for all; what the others come with is left aside."""
        if self.size == 1:
            return dict(tensors)
        here = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        told = [(name, list(t.shape), str(t.dtype).split(".")[1]) for name, t in here.items()]
        shared = {}
        for name, shape, kind in self.exchange(told)[0]:
            empty = torch.empty(shape, dtype=getattr(torch, kind))
            shared[name] = here[name] if self.is_main else empty
            with self.noticing():
                dist.broadcast(shared[name], 0)
        return shared

    @contextlib.contextmanager
    def noticing(self) -> Iterator[None]:
        """In this block a connection that breaks is told as what it is.

        Raises:
            RankGoneError: another process has ended, or has been silent for too long.
            SystemExit: likewise, in all but the main process.
        """
        try:
            yield
        except RuntimeError as error:
            if not _is_of_connection(error):
                raise
            self._prepare_to_end()
            if not self.is_main:
                raise SystemExit(RankGoneError.status) from error
            raise RankGoneError(self.size) from error

    def quit(self, status: int) -> NoReturn:
        """End this process without a word, when the main process has had its own."""
        self._prepare_to_end()
        with contextlib.suppress(RuntimeError):
            dist.recv(torch.empty(1), 0)  # never comes: the other's end breaks the connection
        raise SystemExit(status)

    def _end_with(self, error: Exception, status: int) -> NoReturn:
        self._prepare_to_end()
        if self.is_main:
            raise error
        self.quit(status)

    def _prepare_to_end(self) -> None:
        """When one has ended torchrun ends the others, which may still be telling why."""
        self._ending = True
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _gather(self, message: Mapping[str, Any]) -> list[dict[str, Any]]:
        content = torch.frombuffer(bytearray(json.dumps(message).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with self.noticing():
            dist.monitored_barrier(timeout=PATIENCE)
            dist.all_gather(lengths, torch.tensor([len(content)]))
            longest = int(max(lengths))
            padded = torch.nn.functional.pad(content, (0, longest - len(content)))
            parts = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
            dist.all_gather(parts, padded)
        texts = (p[: int(n)].numpy().tobytes() for p, n in zip(parts, lengths, strict=True))
        return [json.loads(text) for text in texts]

    def _on_sigterm(self, number: int, _: FrameType | None) -> None:
        """As by default, but while an end is being told: a training puts this handler back."""
        if not self._ending:
            raise SystemExit(128 + number)


#: A process of its own.
SINGLE_PROCESS = ProcessGroup()


@functools.cache
def init_process_group() -> ProcessGroup:
    """The group that this process was started in. It stays in it until it ends.

    Raises:
        ProcessGroupError: the processes can't be brought together.
    """
    if any(name not in os.environ for name in _VARIABLES) or os.environ["WORLD_SIZE"] == "1":
        return SINGLE_PROCESS
    if not (dist.is_available() and dist.is_gloo_available()):
        raise ProcessGroupError(
            "this build of PyTorch can't train in several processes: it has no torch.distributed "
            "with gloo. Start a single process, without torchrun."
        )
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        processes = ProcessGroup(rank, size, int(os.environ.get("LOCAL_RANK", rank)))
        dist.init_process_group("gloo", timeout=TIMEOUT)
        atexit.register(dist.destroy_process_group)  # left to itself, gloo may abort at the end
    except (ValueError, RuntimeError) as error:
        here = ", ".join(f"{name}={os.environ[name]}" for name in _VARIABLES)
        raise ProcessGroupError(
            f"the processes can't be brought together ({here}): {error}"
        ) from error
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, processes._on_sigterm)
    return processes


def _is_of_connection(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, dist.DistError) or "gloo" in text or "nccl" in text
