"""How PyTorch is asked to record, and that recorded steps stay on the device."""

from __future__ import annotations

import contextlib
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fivebyfive import networks
from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines import eager, graphs
from fivebyfive.engines.cuda import Cuda
from fivebyfive.engines.interface import Job

from .recording import BATCH, build, recipe


def test_streams_and_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for PyTorch's, since they can't be made without a card."""
    torch_cuda = Mock()
    torch_cuda.stream.side_effect = contextlib.nullcontext
    torch_cuda.graph.side_effect = lambda *_, **__: contextlib.nullcontext()
    torch_cuda.graph_pool_handle.side_effect = ["first pool", "second pool"]
    monkeypatch.setattr(torch, "cuda", torch_cuda)
    recorder = graphs.CudaGraphs(torch.device("cuda"))
    own, usual = torch_cuda.Stream.return_value, torch_cuda.current_stream.return_value
    with contextlib.suppress(KeyError), recorder.stream():
        own.wait_stream.assert_called_once_with(usual)
        torch_cuda.stream.assert_called_once_with(own)
        usual.wait_stream.assert_not_called()
        raise KeyError  # even then what comes later waits
    usual.wait_stream.assert_called_once_with(own)
    work = Mock()
    replays = [recorder.capture(work), recorder.capture(work)]
    recorder.forget()
    replays.append(recorder.capture(work))
    assert work.call_count == 3
    asked = [call.kwargs for call in torch_cuda.graph.call_args_list]
    assert [each["pool"] for each in asked] == ["first pool", "first pool", "second pool"]
    assert {(each["stream"], each["capture_error_mode"]) for each in asked} == {
        (own, "thread_local")
    }
    replays[0]()
    torch_cuda.CUDAGraph.return_value.replay.assert_called_once_with()


def test_a_recording_that_fails_leaves_a_generator_that_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch_cuda, generator = Mock(), Mock()
    torch_cuda.stream.side_effect = contextlib.nullcontext
    torch_cuda.graph.side_effect = lambda *_, **__: contextlib.nullcontext()
    torch_cuda.Stream.return_value.device.index = 1
    torch_cuda.default_generators = (Mock(), generator)
    monkeypatch.setattr(torch, "cuda", torch_cuda)
    recorder = graphs.CudaGraphs(torch.device("cuda", 1))
    recorder.capture(Mock())
    generator.graphsafe_set_state.assert_not_called()
    with pytest.raises(ValueError, match="no"):
        recorder.capture(Mock(side_effect=ValueError("no")))
    generator.graphsafe_set_state.assert_called_once_with(generator.clone_state.return_value)


class Staying(TorchDispatchMode):
    """Sees to it that every tensor of every operation lies on ``device``."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device, self.count = device, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves((args, kwargs, made)):
            assert not isinstance(each, Tensor) or each.device.type == self._device, func
        self.count += 1
        return made


@pytest.mark.parametrize("name", ["lenet", "convnet", "alexnet", "small", "normalised"])
def test_a_step_stays_on_the_device(
    name: str, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device, which gives no values away either."""

    def plain(_: str, network: nn.Module, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(network.parameters(), lr)  # the fused one isn't for this device

    monkeypatch.setattr(eager, "make_optimizer", plain)
    # Nor is autocast, which is off there anyhow.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    net = networks.build(name) if name == "alexnet" else build(name)
    loss = "nll" if name == "convnet" else "cross-entropy"
    r = recipe(resize=224 if name == "alexnet" else None, loss=loss)
    engine = Cuda(Job(net, r, data.train, data.test, torch.device("meta")))
    with Staying("meta") as staying:
        engine._compute(BATCH, 2)
    assert staying.count > 50
