"""The precisions: what each computes, which device has it, and what it leaves behind."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from fivebyfive import engines, networks
from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines import auto_precision, precision
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.interface import Epoch, Job, Metrics
from fivebyfive.engines.precision import rounding_to_tf32, why_unsupported
from fivebyfive.lib.errors import DeviceError
from fivebyfive.recipes import Recipe

CPU = torch.device("cpu")

needs_bf16 = pytest.mark.skipif(
    bool(why_unsupported("bf16", CPU)), reason="this processor has no instructions for bfloat16"
)


class Spy(nn.Module):
    """Notes the dtype and layout that come to it, and the dtype of the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[torch.dtype, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        self.seen.append((x.dtype, last))
        return x


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.ReLU(), Spy(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(1152, 30), nn.ReLU(), nn.Dropout(0.2), nn.Linear(30, 3),
    )  # fmt: skip


def recipe(**changes: object) -> Recipe:
    return Recipe(name="t", network="t", batch_size=16, lr=0.05).but(**changes)


def epoch() -> Epoch:
    return Epoch(1, torch.randperm(60, generator=torch.Generator().manual_seed(1)), 16)


@needs_bf16
@pytest.mark.parametrize("name", ["eager", "cpu", "auto"])
def test_bf16_computes_in_it_and_keeps_the_rest_in_fp32(name: str, tiny: Dataset) -> None:
    results = {}
    for kind in ("fp32", "bf16"):
        net = network()
        r = recipe(precision=kind)
        engine = engines.make(name, Job(net, r, tiny.train, tiny.test, CPU, 8))
        spy = net[2]
        assert isinstance(spy, Spy)
        spy.seen.clear()
        tally, _ = engine.train(epoch(), 0, 4, Metrics())
        if kind == "bf16":
            assert set(spy.seen) == {(torch.bfloat16, True)}
        tested = engine.evaluate()
        assert {p.dtype for p in net.parameters()} == {torch.float32}
        assert {p.grad.dtype for p in net.parameters() if p.grad is not None} <= {torch.float32}
        results[kind] = (tally.mean_loss, tested.mean_loss)
    assert results["bf16"] == pytest.approx(results["fp32"], rel=0.02)
    assert results["bf16"] != results["fp32"]


@needs_bf16
def test_bf16_leaves_the_kernels_alone(tiny: Dataset) -> None:
    net = networks.build("lenet", classes=3)
    r = recipe(precision="bf16")
    asked = engines.make("cpu", Job(copy.deepcopy(net), r, tiny.train, tiny.test, CPU))
    eager = engines.make("eager", Job(copy.deepcopy(net), r, tiny.train, tiny.test, CPU))
    assert asked.train(epoch(), 0, 4, Metrics())[0] == eager.train(epoch(), 0, 4, Metrics())[0]
    assert asked.evaluate() == eager.evaluate()


def test_what_the_device_lacks_is_said(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DeviceError, match=r"precision tf32 isn't available on cpu: only CUDA cards"
    ):
        engines.make("eager", Job(network(), recipe(precision="tf32"), tiny.train, tiny.test, CPU))
    monkeypatch.setattr(precision, "_has_bf16", lambda _: False)
    with pytest.raises(DeviceError, match=r"no instructions for bfloat16\. Here there are: fp32\."):
        engines.make("auto", Job(network(), recipe(precision="bf16"), tiny.train, tiny.test, CPU))


@pytest.mark.parametrize("rounding", [True, False])
def test_cudas_switches_are_put_back(rounding: bool) -> None:
    def switches() -> tuple[object, ...]:
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        if hasattr(cudnn, "conv"):
            return tuple(each.fp32_precision for each in (matmul, cudnn.conv, cudnn.rnn))
        return matmul.allow_tf32, cudnn.allow_tf32

    before = switches()
    with contextlib.suppress(KeyError), rounding_to_tf32(rounding):
        assert set(switches()) <= ({"tf32", True} if rounding else {"ieee", False})
        raise KeyError  # also where something fails
    assert switches() == before


def test_threads_that_want_cudas_switches_otherwise_take_turns() -> None:
    def now() -> object:
        matmul = torch.backends.cuda.matmul
        return matmul.fp32_precision if hasattr(matmul, "fp32_precision") else matmul.allow_tf32

    before, together = now(), threading.Barrier(2, timeout=30)
    with rounding_to_tf32(True):
        rounded = now()
    with rounding_to_tf32(False):
        exact = now()

    def stretches(rounding: bool) -> list[object]:
        seen: list[object] = []
        together.wait()
        for _ in range(200):
            with rounding_to_tf32(rounding):
                seen.append(now())
                time.sleep(0.0001)
                seen.append(now())
        return seen

    def alike() -> object:
        with rounding_to_tf32(True):
            together.wait()  # both are inside
            return now()

    with ThreadPoolExecutor(2) as pool:
        assert [f.result() for f in [pool.submit(alike), pool.submit(alike)]] == [rounded] * 2
        one, other = pool.submit(stretches, True), pool.submit(stretches, False)
        assert set(one.result()) == {rounded}
        assert set(other.result()) == {exact}
    assert rounded != exact
    assert now() == before


@needs_bf16
@pytest.mark.parametrize("faster", ["fp32", "bf16"])
def test_auto_takes_the_fastest_and_says_so(
    faster: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def measured(engine: Eager, images: int, device: torch.device) -> float:
        tried.append(engine.recipe.precision)
        engine.train(Epoch(1, torch.arange(images), images), 0, 1, Metrics())
        return 0.5 if engine.recipe.precision == faster else 1.25

    monkeypatch.setattr(auto_precision, "_measured", measured)
    net = network()
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    r = recipe(precision="auto")
    engine = engines.make("auto", Job(net, r, tiny.train, tiny.test, CPU))
    assert tried == ["fp32", "bf16"]
    assert engine.recipe == r.but(precision=faster)
    (notice,) = engine.notices()
    slower = "bf16" if faster == "fp32" else "fp32"
    assert notice.kind == "precision"
    assert notice.message == (
        f"precision auto: a step in {faster} takes 0.5 s, in {slower} 1.25 s. So {faster} it is."
    )
    # Nothing of the trial is left.
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    plain = engines.make("auto", Job(network(), engine.recipe, tiny.train, tiny.test, CPU))
    assert engine.train(epoch(), 0, 4, Metrics())[0] == plain.train(epoch(), 0, 4, Metrics())[0]


def test_auto_measures_for_real(tiny: Dataset) -> None:
    job = Job(network(), recipe(precision="auto"), tiny.train, tiny.test, CPU)
    engine = engines.make("auto", job)
    assert engine.recipe.precision in ("fp32", "bf16")
    assert engine.notices()[0].message.startswith("precision auto: a step in")
