from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fivebyfive.lib.errors import NetworkError, ShapeError
from fivebyfive.summary.layers import describe
from fivebyfive.summary.trace import plain_name, trace


class Residual(nn.Module):
    """A block that adds its input back, in place; the sum works through both branches."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.norm(self.conv1(x))))
        y += x
        return F.relu(y)


def residual() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 7, stride=2, padding=3),
        Residual(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.BatchNorm1d(4),
        nn.Linear(4, 10),
    )


class Inception(nn.Module):
    """Two branches side by side, the outputs stacked; noise such as ``size`` in between."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(1, 2, 1)
        self.wide = nn.Conv2d(1, 3, 5, padding=2)
        self.register_buffer("shift", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        _ = x.size(0), x.shape, x.dim(), x.detach()
        y = torch.cat([self.narrow(x), self.wide(x)], dim=1).contiguous()
        return 1 - (y + self.shift).mean((2, 3))


class ByHand(nn.Module):
    """Weights used by functions, one of them twice, in a module without parts."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(3, 1, 3, 3))
        self.weight = nn.Parameter(torch.randn(3, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.kernel, stride=2, dilation=2)
        x = F.max_pool2d(x, 2).flatten(2).sum(-1)
        return F.linear(F.linear(x, self.weight), self.weight)


class Attention(nn.Module):
    """Pixels as words: each looks at all others."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 8, 4, stride=4)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        words = self.embed(x).flatten(2).transpose(1, 2)
        words = self.head(self.attend(words, words, words, need_weights=False)[0])
        return {"scores": words.mean(1)}


USER_NETWORK_SETTINGS = {
    "residual": (residual, (1, 28, 28)),
    "inception": (Inception, (1, 12, 12)),
    "by-hand": (ByHand, (1, 16, 16)),
    "attention": (Attention, (1, 16, 16)),
}


def rows_of(name: str):
    make, shape = USER_NETWORK_SETTINGS[name]
    return trace(make(), shape)


def test_residual_blocks_are_followed_inside_and_where_they_meet():
    rows = rows_of("residual")
    block = ["1.conv1", "1.norm", "1.relu", "1.conv2", "1.add", "1.relu"]
    assert [row.name for row in rows] == ["0", *block, "2", "3", "4", "5"]
    sides = [7, 11, 11, 11, 15, 15, 15]
    assert [row.receptive_field for row in rows] == [*((s, s) for s in sides), *["all"] * 4]
    assert {row.effective_stride for row in rows[:7]} == {(2, 2)}


def test_branches_merge_and_noise_is_left_out():
    rows = rows_of("inception")
    assert [row.name for row in rows] == ["narrow", "wide", "cat", "add", "mean", "sub"]
    cat = rows[2]
    assert (cat.kind, cat.input_shape) == ("function", (1, 2, 12, 12))
    assert cat.output_shape == (1, 5, 12, 12)
    assert cat.receptive_field == (5, 5)
    assert rows[-2].receptive_field == "all"


def test_weights_used_by_functions_are_counted_once():
    rows = rows_of("by-hand")
    names = ["conv2d", "max_pool2d", "flatten", "sum", "linear", "linear"]
    assert [row.name for row in rows] == names
    assert [row.parameters for row in rows] == [27, 0, 0, 0, 9, 0]
    assert rows[0].receptive_field == (5, 5)  # a dilated 3×3
    assert rows[1].receptive_field == (7, 7)
    assert rows[1].effective_stride == (4, 4)


def test_attention_is_one_row_with_all_its_weights():
    rows = rows_of("attention")
    attend = next(row for row in rows if row.type == "MultiheadAttention")
    assert attend.parameters == sum(p.numel() for p in nn.MultiheadAttention(8, 2).parameters())
    assert attend.flops > 0
    assert attend.receptive_field == "all"


@pytest.mark.parametrize("name", USER_NETWORK_SETTINGS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_shapes_are_those_of_a_real_run(name, batch_size):
    make, shape = USER_NETWORK_SETTINGS[name]
    network = make()
    layers = describe(network, shape, batch_size)
    output = network.eval()(torch.zeros(1, *shape))
    output = output["scores"] if isinstance(output, dict) else output
    assert layers.rows[-1].output_shape == output.shape
    assert sum(row.parameters for row in layers.rows) == layers.parameters
    assert layers.flops_training > layers.flops_forward


def test_a_module_without_parts_of_the_users_is_one_row():
    class Reshape(nn.Module):
        def forward(self, x):
            return x.view(-1, 16)

    rows = trace(nn.Sequential(Reshape(), nn.Linear(16, 2)), (1, 4, 4))
    assert [(row.name, row.type) for row in rows] == [("0", "Reshape"), ("1", "Linear")]


def test_a_single_layer_is_a_network():
    (row,) = trace(nn.Flatten(), (1, 4, 4))
    assert (row.name, row.output_shape) == ("Flatten", (1, 16))


def test_a_shared_layer_shows_twice_and_counts_once():
    layer = nn.Linear(4, 4)
    rows = trace(nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer), (1, 2, 2))
    assert [row.parameters for row in rows] == [0, 20, 0, 0]


def scripted(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is on its way out
        return torch.jit.script(module)


def test_hidden_functions_lose_no_layers():
    relu = scripted(nn.ReLU())

    class Hidden(nn.Module):
        def forward(self, x):
            return relu(x)

    rows = trace(nn.Sequential(nn.Conv2d(1, 2, 3), Hidden(), nn.Flatten()), (1, 6, 6))
    assert [row.name for row in rows] == ["0", "1", "2"]
    assert [row.receptive_field for row in rows] == [(3, 3)] * 3


def test_compiled_parts_are_refused():
    with pytest.raises(NetworkError, match="compiled by TorchScript"):
        trace(nn.Sequential(scripted(nn.ReLU())), (1, 2, 2))


def test_a_module_that_takes_or_gives_no_tensor_is_no_row():
    class Count(nn.Module):
        def forward(self, x):
            return len(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.count = Count()

        def forward(self, x):
            return x * self.count(x)

    assert [row.name for row in trace(Net(), (1, 2, 2))] == ["mul"]


class Broken(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.plain = torch.ones(4)
        self.how = how

    def forward(self, x):
        return self.how(self, x)


@pytest.mark.parametrize(
    "how",
    [
        lambda _, x: x * x.max().item(),
        lambda _, x: x.flatten(1) if x.sum() > 0 else x,
        lambda self, x: x.flatten(1) @ self.plain,
    ],
    ids=["item", "if", "plain tensor"],
)
def test_what_needs_real_values_is_told(how):
    with pytest.raises(NetworkError, match="without running the network") as caught:
        trace(Broken(how), (1, 2, 2))
    assert not isinstance(caught.value, ShapeError)


def test_a_mistake_in_the_forward_is_told():
    with pytest.raises(NetworkError, match=r"raised AttributeError.*no attribute 'missing'"):
        trace(nn.Sequential(nn.Flatten(), Broken(lambda self, _: self.missing)), (1, 2, 2))


def test_a_network_that_takes_no_usual_image_gets_plain_advice():
    with pytest.raises(ShapeError, match="--input CHANNELSxHEIGHTxWIDTH"):
        trace(nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), (1, 2, 2))


def test_failing_in_training_alone_is_told():
    def fails(self, x):
        assert not self.training, "not yet"
        return x * self.weight.sum()

    with pytest.raises(NetworkError, match=r"not in training mode.*AssertionError: not yet"):
        describe(Broken(fails), (1, 2, 2))


def test_names_of_operators():
    tensor = torch.Tensor
    functions = (tensor.add_, tensor.__iadd__, torch.relu, tensor.__rsub__, tensor.__getitem__)
    assert [plain_name(f) for f in functions] == ["add", "add", "relu", "sub", "getitem"]
