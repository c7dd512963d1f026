"""What is said of a network before it runs: what the kernels take, and why not the rest."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fivebyfive import networks
from fivebyfive.kernels.accelerate import Fused
from fivebyfive.kernels.analysis import Analysis
from fivebyfive.kernels.library import VARIABLE, report

from .comparing import block

needs_kernels = pytest.mark.skipif(report().active is None, reason="needs the compiled kernels")
pytestmark = needs_kernels
SHAPE = (1, 28, 28)


def analyse(network: nn.Module, shape: tuple[int, int, int]) -> Analysis:
    device = next(network.parameters()).device
    return Fused(network).analyse(torch.empty(2, *shape, device=device))


def refusals(network: nn.Module, shape: tuple[int, int, int] = (2, 9, 9)) -> dict[str, str]:
    return {each.type: each.reason for each in analyse(network, shape).refusals}


def whole(network: nn.Module, shape: tuple[int, int, int] = SHAPE) -> bool | None:
    """Whether a ``log_softmax`` ends the one chain that the network is; ``None``: it is none."""
    found = analyse(network, shape).whole
    return None if found is None else found.normalised


def test_the_named_networks() -> None:
    # Counted by hand in networks/lenet.py and networks/convnet.py.
    lenet, convnet = (analyse(networks.build(name), SHAPE) for name in ("lenet", "convnet"))
    assert (lenet.layers, lenet.refusals, len(lenet.segments)) == (11, (), 1)
    assert (convnet.layers, [r.type for r in convnet.refusals]) == (9, ["LogSoftmax"])
    with torch.device("meta"):
        alexnet = analyse(networks.build("alexnet"), (1, 224, 224))
    assert alexnet.layers == 20
    # Layer by layer: four convolutions with their ReLUs and three poolings; not the first
    # convolution (11×11) and its ReLU, nor three linear layers, two ReLUs, and two dropouts.
    assert not alexnet.segments
    assert alexnet.convolves
    assert len(alexnet.refusals) == 9
    assert "kernel 11×11, PyTorch is as fast" in {r.reason for r in alexnet.refusals}


def test_only_whole_chains_are_found() -> None:
    lenet = networks.build("lenet")
    assert whole(lenet) is False
    assert whole(networks.build("convnet")) is True
    assert whole(nn.Sequential(*lenet, nn.LogSoftmax(1))) is True
    for other in (nn.LogSoftmax(0), nn.Dropout()):
        assert whole(nn.Sequential(*lenet, other)) is None
    assert whole(lenet, (1, 32, 32)) is None
    assert whole(nn.Sequential(nn.Flatten(), nn.Linear(784, 10))) is False
    assert whole(nn.Sequential(nn.Linear(784, 10)), (1, 1, 784)) is None
    with torch.device("meta"):  # of many channels, and on large images
        assert whole(nn.Sequential(*networks.build("vgg").children())[:5], (1, 224, 224)) is None
    lenet.register_forward_hook(print)
    assert whole(lenet) is None
    assert whole(networks.build("lenet").double()) is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"stride": 2}, "stride (2, 2), the kernels have stride 1 only"),
        ({"dilation": 2}, "dilation, the kernels have none"),
        ({"groups": 1, "padding": "same"}, "padding 'same'"),
        ({"padding": (1, 0)}, "padding (1, 0)"),
        ({"padding": 1, "padding_mode": "reflect"}, "no kernel"),
    ],
    ids=str,
)
def test_convolutions_the_kernels_do_not_know(options: dict[str, object], reason: str) -> None:
    told = refusals(block(**options))["Conv2d"]
    assert told.startswith(reason)


def test_layers_the_kernels_do_not_know() -> None:
    network = block(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(3, 2))
    found = analyse(network, (2, 9, 9))
    assert found.layers == 5  # without Flatten
    assert refusals(network) == {
        "BatchNorm2d": "no kernel",
        "ReLU": "not where the kernels have it: layer, activation, pooling",
        "MaxPool2d": "the kernels pool squares up to 3×3, without padding or ceil_mode",
    }
    assert [each.name for each in found.refusals] == ["1", "2", "3"]


def test_a_layer_used_twice_and_functions() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv(x))
            return (x + self.conv(x)).reshape(x.shape[0] * 1, -1)

    found = analyse(Twice(), (2, 9, 9))
    assert found.layers == 4  # what is done to a shape, and reshape, don't count
    assert {(each.type, each.reason) for each in found.refusals} == {
        ("Conv2d", "it or a parameter of it is used twice"),
        ("relu", "not where the kernels have it: layer, activation, pooling"),
        ("add", "no kernel"),
    }


class Counting(nn.Sequential):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


def test_a_network_that_is_refused_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    found = analyse(Counting(*networks.build("lenet")), SHAPE)
    assert (found.graph, found.segments, found.whole) == (None, (), None)
    assert [each.reason for each in found.refusals] == [
        "forward changes something beside its result"
    ]
    assert found.layers == 11
    hooked = networks.build("lenet")
    hooked.register_forward_hook(lambda *_: None)
    assert refusals(hooked, SHAPE)["all"].startswith("hooks on the network")
    monkeypatch.setenv(VARIABLE, "none")
    assert "no kernels on this machine: turned off" in refusals(networks.build("lenet"))["all"]


def test_it_leaves_its_graph_as_it_is() -> None:
    from fivebyfive.kernels.fusing import fuse

    found = analyse(networks.build("lenet"), SHAPE)
    before = [node.name for node in found.graph.graph.nodes]
    assert fuse(found) is not None
    assert [node.name for node in found.graph.graph.nodes] == before
