"""The CUDA engine asked for, and on a card where there is one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from fivebyfive import engines
from fivebyfive.cli import program
from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.cuda import AT_ONCE, WARM_UP, Cuda
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.interface import Epoch, Job, Metrics
from fivebyfive.engines.precision import why_unsupported
from fivebyfive.lib.errors import DeviceError
from fivebyfive.recipes import Precision

from .recording import BATCH, NETWORKS, Forks, build, recipe, small, train


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_only_cards_have_it(device: str, data: Dataset) -> None:
    with pytest.raises(DeviceError, match=f"the cuda engine can't run: the device is {device}"):
        engines.make("cuda", Job(small(), recipe(), data.train, data.test, torch.device(device)))


def test_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "lenet", "--data", "sample", "--device", "cpu", "--engine", "cuda"]
    assert program(words) == 2
    said = capsys.readouterr().err
    assert "the cuda engine can't run: the device is cpu. --engine eager runs everywhere." in said


card = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA card here")


def here() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


@card
@pytest.mark.parametrize("precision", ["fp32", "bf16", "tf32"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", NETWORKS)
def test_computes_what_the_eager_engine_does(
    name: str, optimizer: str, precision: Precision, data: Dataset
) -> None:
    if reason := why_unsupported(precision, here()):
        pytest.skip(reason)
    loss = "nll" if name == "convnet" else "cross-entropy"
    r = recipe(optimizer=optimizer, lr=0.002, loss=loss, precision=precision)
    net, results = build(name), []
    for kind in (Eager, Cuda):
        engine = kind(Job(copy.deepcopy(net), r, data.train, data.test, here()))
        tallies = train(engine, data, range(1, 5))
        assert engine.notices() == []
        results.append(([tally.loss for tally in tallies], engine.network.state_dict()))
    # Kernels that add up in no fixed order leave the last bits open.
    rounding = 1 if precision == "fp32" else 10
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-3 * rounding)
    torch.testing.assert_close(
        results[0][1], results[1][1], rtol=1e-2 * rounding, atol=1e-4 * rounding
    )
    assert isinstance(engine, Cuda)
    assert {steps.count for steps in engine._steps.values()} == {1, AT_ONCE}
    assert engine._computed == {BATCH: WARM_UP, 2: WARM_UP}


@card
def test_goes_on_where_a_recording_fails(data: Dataset) -> None:
    net, results = build(lambda: nn.Sequential(small(), Forks())), []
    for kind in (Eager, Cuda):
        engine = kind(Job(copy.deepcopy(net), recipe(), data.train, data.test, here()))
        results.append([tally.loss for tally in train(engine, data, range(1, 4))])
    assert results[0] == pytest.approx(results[1], rel=1e-3)
    (notice,) = engine.notices()
    assert "a step can't be recorded (" in notice.message
    assert torch.rand(1, device=here()).isfinite()  # its generator still draws
    torch.cuda.empty_cache()


@card
@pytest.mark.parametrize("kind", [Eager, Cuda])
def test_goes_on_where_memory_runs_out(kind: type[Eager], data: Dataset) -> None:
    batch, hidden = 1 << 15, 4096  # half a gigabyte for the values of one layer
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 3))
    r, order = recipe(batch_size=batch), torch.arange(batch, device=here()) % len(data.train)

    def weights(micro_batch: int | None) -> tuple[Eager, dict[str, Tensor]]:
        engine = kind(Job(copy.deepcopy(net), r, data.train, data.test, here(), micro_batch))
        engine.train(Epoch(1, order, batch), 0, 1, Metrics())
        return engine, engine.network.state_dict()

    whole = torch.cuda.get_device_properties(here()).total_memory
    torch.cuda.empty_cache()
    try:
        most = torch.cuda.memory_reserved(here()) + 3 * 4 * batch * hidden // 2
        torch.cuda.set_per_process_memory_fraction(most / whole, here())
        engine, found = weights(None)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, here())
    assert engine.micro_batch < batch
    assert "out-of-memory" in {notice.kind for notice in engine.notices()}
    torch.testing.assert_close(found, weights(engine.micro_batch)[1], rtol=0, atol=0)
