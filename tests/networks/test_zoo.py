"""The book's networks have the shapes that it prints, and train in the kernels as in float64."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fivebyfive import networks
from fivebyfive.kernels import channels_last
from fivebyfive.kernels.accelerate import Fused, accelerate
from fivebyfive.kernels.library import report
from fivebyfive.training.weights import build_seeded

#: The output of each part, as the chapters on modern networks print them for one image.
SHAPES = {
    "vgg": [
        (16, 112, 112), (32, 56, 56), (64, 28, 28), (128, 14, 14), (128, 7, 7), (6272,), (4096,),
        (4096,), (4096,), (4096,), (4096,), (4096,), (10,),
    ],
    "nin": [
        (96, 54, 54), (96, 26, 26), (256, 26, 26), (256, 12, 12), (384, 12, 12), (384, 5, 5),
        (384, 5, 5), (10, 5, 5), (10, 1, 1), (10,),
    ],
    "googlenet": [(64, 24, 24), (192, 12, 12), (480, 6, 6), (832, 3, 3), (1024,), (10,)],
    "resnet18": [
        (64, 24, 24), (64, 24, 24), (128, 12, 12), (256, 6, 6), (512, 3, 3), (512, 1, 1), (512,),
        (10,),
    ],
    "densenet": [
        (64, 24, 24), (192, 24, 24), (96, 12, 12), (224, 12, 12), (112, 6, 6), (240, 6, 6),
        (120, 3, 3), (248, 3, 3), (248, 3, 3), (248, 3, 3), (248, 1, 1), (248,), (10,),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_those_of_the_book(name: str) -> None:
    with torch.device("meta"):
        network, x = networks.build(name), torch.empty(1, *networks.get(name).input)
    found = []
    for layer in network.children():
        x = layer(x)
        found.append(tuple(x.shape[1:]))
    assert found == SHAPES[name]


def test_googlenet_joins_what_its_paths_find() -> None:
    from fivebyfive.networks.googlenet import Inception

    block, x = Inception(8, 3, (4, 5), (2, 6), 7), torch.rand(2, 8, 9, 9)
    with torch.no_grad():
        out = block(x)
        assert out.shape == (2, 3 + 5 + 6 + 7, 9, 9)
        assert torch.equal(out[:, :3], block.p1_1(x).relu())
        assert torch.equal(out[:, -7:], block.p4_2(block.p4_1(x)).relu())


@pytest.mark.skipif(report().active is None, reason="needs the compiled kernels")
@pytest.mark.parametrize(
    "name",
    [
        "lenet-bn", "resnet18", "densenet", "googlenet",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("alexnet", "vgg", "nin")),
    ],
)  # fmt: skip
def test_gradients_are_those_of_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels_last.convolution, "_pays", lambda *_: True)
    network = build_seeded(lambda: networks.build(name), "xavier", 0, torch.empty(0))
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # it would draw other numbers in float64
    x = torch.rand(6, *networks.get(name).input, generator=torch.Generator().manual_seed(0))

    def learned(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        loss = F.cross_entropy(network(x), torch.arange(6))
        grads = torch.autograd.grad(loss, list(network.parameters()))
        return loss.detach(), torch.cat([g.flatten() for g in grads]).double()

    mine = accelerate(copy.deepcopy(network))
    assert Fused(mine).analyse(x).convolves
    loss, found = learned(mine, x)
    exact_loss, exact = learned(copy.deepcopy(network).double(), x.double())
    assert abs(loss - exact_loss) < 1e-5 * exact_loss
    # As a whole: where rounding decides a ReLU, values go either way, in PyTorch's float32,
    # too, and batch norm over as few pixels makes up to some thousandths of that.
    assert (found - exact).norm() < 1e-2 * exact.norm()
