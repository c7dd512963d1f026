"""Will it fit? What a training holds at its fullest, and what is done where that is too much."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..datasets.pixels import Pixels
from ..datasets.splits import Split
from ..engines.allocator import keep_large_buffers
from ..engines.micro_batches import split_in_words
from ..lib import free_memory
from ..lib.torch_internals import normalises
from ..lib.units import size
from ..training.session import Session
from .step import Memory, measure, measure_test

#: What is still to come must fit with this part of it to spare: estimates are that good.
MARGIN = 0.15

#: With glibc's heap PyTorch's buffers span about twice what they hold at once: a freed one leaves a
#: hole that is too small for the next. Measured: 1.5 to 2.3 times; see docs/memory.md.
SPAN = 2


@dataclass(frozen=True)
class MemoryEstimate:
    """What a training holds at its fullest on its device, in bytes.

    ``program`` is what the process holds beside the training: the interpreter, PyTorch and its
    libraries (on a GPU, the workspaces that cuBLAS keeps). ``data`` are both splits as they are
    stored. ``checkpoint`` is the copy that is written while the training goes on. ``step`` is the
    rest, part by part, for ``batch_size`` images at once, and ``fragmentation`` is what freed
    buffers leave between others, too small for the next. ``testing`` is the total during a test of
    ``tested`` images at once.

    ``micro_batch`` is the largest equal split of the batch that fits (all of it, half, a quarter,
    …), ``test_batch`` that of the images tested at once; ``None`` where not even one image does.
    ``least`` is the total with one image at a time, where not all of it fits. ``available`` is what
    there is for all of it, what the process holds already included; ``None`` where nobody tells.
    ``exact`` is whether a split leaves the result as it is.
    """

    program: int
    data: int
    checkpoint: int
    step: Memory
    fragmentation: int
    testing: int
    least: int | None
    available: int | None
    batch_size: int
    micro_batch: int | None
    tested: int
    test_batch: int | None
    exact: bool

    @property
    def training(self) -> int:
        """The total during a step."""
        return self.program + self.data + self.checkpoint + self.step.total + self.fragmentation

    @property
    def peak(self) -> int:
        """The most that is held at once, during a step or a test."""
        return max(self.training, self.testing)

    @property
    def fits(self) -> bool:
        """Whether nothing need be split."""
        return (self.micro_batch, self.test_batch) == (self.batch_size, self.tested)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**dataclasses.asdict(self), "peak": self.peak, "fits": self.fits}

    def __str__(self) -> str:
        """One line: what is needed of what there is, and what will be done."""
        if self.available is None:
            return f"needs about {size(self.peak)}; how much there is can't be told here"
        if self.fits:
            return f"needs about {size(self.peak)} of {size(self.available)}: fits"
        if self.micro_batch is None or self.test_batch is None:
            assert self.least is not None
            return (
                f"needs about {size(self.least)} even for one image at a time, and "
                f"{size(self.available)} are available: doesn't fit. Close other programs, or "
                "choose smaller images (--resize), a smaller network or a machine with more memory"
            )
        splits = " and ".join(self._splits(self.micro_batch, self.test_batch))
        return (
            f"needs about {size(self.peak)}, {size(self.available)} are available: doesn't fit "
            f"whole, so {splits}"
        )

    def _splits(self, micro_batch: int, test_batch: int) -> Iterator[str]:
        if micro_batch < self.batch_size:
            split = split_in_words(self.batch_size, micro_batch)
            outcome = "stays the same" if self.exact else "changes: it normalises over a batch"
            yield f"the batch of {self.batch_size} is computed as {split} (the result {outcome})"
        if test_batch < self.tested:
            yield f"{test_batch} images are tested at a time"


def estimate_memory(session: Session, micro_batch: int | None = None) -> MemoryEstimate:
    """What training ``session`` will take on its device, before its first step.

    Nothing is computed and nothing of the network's size is taken. Two things are measured, now:
    what the process holds, and what there is. ``micro_batch`` is the split to begin with, where
    the user asks for one.

    Raises:
        NetworkError: the network can't be followed without running it.
    """
    network, engine, device = session.network, session.engine, session.device
    recipe, data = engine.recipe, session.data
    batch_size = micro_batch or recipe.batch_size
    tested = min(engine.test_batch, len(data.test))
    shape = Pixels(recipe.resize).shape(data.train.shape)
    followed, bf16 = engine.pytorch_network(), recipe.precision == "bf16"
    span = SPAN if device.type == "cpu" and keep_large_buffers() else 1
    lasting = Memory.lasting(network, recipe.optimizer)
    # First come the libraries that a training brings, so that they count as held: what draws its
    # curves, and what PyTorch's optimizers need.
    for library in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        importlib.import_module(library)
    moments = sum(moment.nbytes for moment in engine.optimizer_state().values())

    def step(count: int) -> tuple[Memory, int]:
        """For a step, or a part of one, and what it spans beyond that."""
        kernels = engine.workspace(count, training=True)
        if kernels is not None:
            return dataclasses.replace(lasting, workspace=kernels), 0
        memory, _ = measure(followed, shape, count, recipe.optimizer, bf16=bf16)
        if count < recipe.batch_size:  # the parts' gradients are added up, one by one
            added = max((p.nbytes for p in network.parameters() if p.requires_grad), default=0)
            memory = dataclasses.replace(memory, workspace=memory.workspace + added)
        return memory, (span - 1) * memory.batch

    whole, fragmentation = step(batch_size)
    stored = _stored(data.train) + _stored(data.test)
    on_gpu = device.type == "cuda"
    held = torch.cuda.memory_allocated(device) if on_gpu else free_memory.resident()
    free = free_memory.free(device)
    program = max(0, held - stored - lasting.weights - moments)
    # Weights and moments are copied, and written while the training goes on.
    checkpoint = lasting.weights + lasting.optimizer if device.type == "cpu" else 0
    rest = program + stored + checkpoint

    def training(count: int) -> int:
        memory, lost = step(count)
        return rest + memory.total + lost

    def testing(count: int) -> int:
        beside = engine.workspace(count, training=False)
        if beside is None:
            beside = span * measure_test(followed, shape, count, bf16=bf16)
        return rest + lasting.total + beside

    def fits(total: int) -> bool:
        return free is None or (1 + MARGIN) * (total - held) <= free

    micro = next((n for n in halves(batch_size) if fits(training(n))), None)
    test = next((n for n in halves(tested) if fits(testing(n))), None)
    all_fits = (micro, test) == (batch_size, tested)
    return MemoryEstimate(
        program=program,
        data=stored,
        checkpoint=checkpoint,
        step=whole,
        fragmentation=fragmentation,
        testing=testing(tested),
        least=None if all_fits else max(training(1), testing(1)),
        available=None if free is None else held + free,
        batch_size=batch_size,
        micro_batch=micro,
        tested=tested,
        test_batch=test,
        exact=not normalises(network),
    )


def halves(count: int) -> Iterator[int]:
    """``count``, half of it, a quarter and so on down to 1, as the engines try them."""
    while count:
        yield count
        count //= 2


def _stored(split: Split) -> int:
    # A limit leaves the whole in memory: what is trained on is a view of it.
    return sum(tensor.untyped_storage().nbytes() for tensor in (split.images, split.labels))
