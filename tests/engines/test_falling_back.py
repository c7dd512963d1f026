"""PyTorch takes over from the kernels within a run: they find no memory, or the batch is split."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fivebyfive import networks
from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.cpu import Cpu
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.interface import Job, Metrics
from fivebyfive.kernels.library import report

from .comparing import same
from .guarded import BATCH, epoch, no_room, recipe

CPU = torch.device("cpu")
needs_kernels = pytest.mark.skipif(not report().active, reason="the kernels aren't built here")


@pytest.fixture
def lenet() -> nn.Module:
    torch.manual_seed(0)
    return networks.build("lenet", classes=3)


@needs_kernels
def test_the_kernels_run_out_of_memory(
    lenet: nn.Module, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    r = recipe(optimizer="adam", lr=0.001)
    failing, started = (
        Cpu(Job(copy.deepcopy(lenet), r, tiny.train, tiny.test, CPU, micro_batch))
        for micro_batch in (None, BATCH // 2)
    )
    assert failing._stepper is not None
    monkeypatch.setattr(failing._stepper, "train", no_room)
    each = epoch(tiny)
    tallies = [engine.train(each, 0, each.steps, Metrics())[0] for engine in (failing, started)]
    assert tallies[0] == tallies[1]
    assert failing._stepper is None
    assert failing.evaluate() == started.evaluate()
    same(failing, started)
    assert [notice.message.split(",")[0] for notice in failing.notices()] == [
        "out of memory at 16 images at a time: from here on 2 × 8"
    ]


@needs_kernels
def test_the_kernels_run_out_of_memory_in_the_test(
    lenet: nn.Module, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Cpu(Job(lenet, recipe(), tiny.train, tiny.test, CPU))
    expected = engine.evaluate()
    monkeypatch.setattr(engine._stepper, "evaluate", no_room)
    found = engine.evaluate()
    assert (found.correct, found.count) == (expected.correct, expected.count)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)


def test_pytorch_goes_on_with_the_kernels_moments(lenet: nn.Module, tiny: Dataset) -> None:
    r = recipe(optimizer="adam", lr=0.001)
    each = epoch(tiny)
    losses = []
    for kind in (Cpu, Eager):
        engine = kind(Job(copy.deepcopy(lenet), r, tiny.train, tiny.test, CPU))
        tally, _ = engine.train(each, 0, 2, Metrics())
        engine.micro_batch = 8
        losses.append(engine.train(each, 2, each.steps, tally)[0].loss)
        steps = [v for name, v in engine.optimizer_state().items() if name.endswith("/step")]
        assert {step.item() for step in steps} == {each.steps}
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
