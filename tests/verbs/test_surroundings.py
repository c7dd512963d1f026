"""What a training meets in the wild: odd networks, and what its caller has set around it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn

import fivebyfive as fbf
from fivebyfive.datasets.splits import Dataset
from fivebyfive.lib.errors import NetworkError

Train = Callable[..., fbf.Run]


@pytest.fixture
def train(tiny: Dataset, tmp_path: Path) -> Train:
    def train(what: nn.Module | str, name: str = "run", **more: object) -> fbf.Run:
        given = {"epochs": 1, "batch_size": 20, "watch": "quiet", "device": "cpu", **more}
        return fbf.train(what, data=tiny, run=tmp_path / name, **given)  # type: ignore[arg-type]

    return train


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(676, 3))


class Making(nn.Module):
    """Makes a buffer when it first runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = plain()

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "made"):
            self.register_buffer("made", torch.full((), 2.0))
        return self.layers(x) * self.made  # type: ignore[no-any-return]


class Growing(Making):
    """Has a buffer that its first forward gives another size, as observers of ranges do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("least", torch.empty(0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        assert isinstance(self.least, Tensor)
        if not self.least.numel():
            self.least.resize_(3).fill_(torch.inf)
        self.least.copy_(torch.minimum(self.least, x.detach().amin(0)))
        return x


@pytest.mark.parametrize("engine", ["cpu", "eager"])
@pytest.mark.parametrize("make", [Making, Growing, lambda: fx.symbolic_trace(plain())])
def test_networks_that_change_when_they_run_and_traces(
    train: Train, make: Callable[[], nn.Module], engine: str
) -> None:
    run = train(make(), engine=engine)
    assert run.result is not None
    assert run.result["train_loss"] < 2


@pytest.mark.parametrize("around", [torch.no_grad, lambda: torch.set_grad_enabled(False)])
@pytest.mark.parametrize("engine", ["cpu", "eager"])
def test_gradients_switched_off_around_it(
    train: Train, around: Callable[[], torch.no_grad], engine: str
) -> None:
    torch.manual_seed(0)
    network = plain()
    again = plain()
    again.load_state_dict(network.state_dict())
    with around():
        train(network, engine=engine)
        assert not torch.is_grad_enabled()
    train(again, "again", engine=engine)
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_under_inference_mode_a_named_network_trains_and_another_is_refused(train: Train) -> None:
    with torch.inference_mode():
        train("lenet")
        with pytest.raises(NetworkError, match=r"made under torch\.inference_mode\(\)"):
            train(plain(), "other")


@pytest.fixture
def doubles() -> object:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_another_default_type(train: Train, doubles: None, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"float64; expected torch\.float32\. PyTorch makes"):
        train("lenet")
    assert not (tmp_path / "run").exists()
    run = train(plain().float())
    assert run.result is not None
    assert run.result["train_loss"] < 2


@pytest.mark.parametrize("engine", ["cpu", "eager"])
def test_weights_lie_afterwards_as_they_did_before(train: Train, engine: str) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2), nn.Flatten(),
        nn.Linear(16 * 36, 3),
    )  # fmt: skip
    channels_last = plain().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train(network, engine=engine)
    torch.nn.utils.parameters_to_vector(network.parameters())
    assert network[2].weight.view(16, -1).shape == (16, 144)
    two = nn.Sequential(nn.Conv2d(1, 2, 1), *channels_last)
    two[1] = nn.Conv2d(2, 4, 3, stride=2).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train(two, "two", engine=engine)
    assert two[1].weight.is_contiguous(memory_format=torch.channels_last) or engine == "cpu"


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(784, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.third.weight = self.second.weight
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x.flatten(1)))
        return self.last(F.relu(self.third(F.relu(self.second(x)))))  # type: ignore[no-any-return]


def test_tied_weights_are_loaded_by_the_library_and_by_us(train: Train) -> None:
    run = train(Tied())
    network = Tied()
    assert safetensors.torch.load_model(network, run.path / "model.safetensors") == (set(), [])
    assert run.trained is not None
    assert torch.equal(network.third.weight, run.trained.third.weight)  # type: ignore[union-attr, arg-type]
    assert torch.equal(run.network(Tied).state_dict()["third.weight"], network.third.weight)


def test_a_folder_with_a_chinese_name(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "数字"
    tiny_folder.rename(place)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = fbf.train("lenet", data=place, run="跑", epochs=1, batch_size=20, watch="quiet")
    assert run.recipe.dataset == "数字"
    assert (run.path / "curves.png").stat().st_size > 1000


CODE = """
from torch import nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.{activation}())
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        {comment}
        return self.fc(self.layers(x)) * {factor}
"""


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"activation": "Tanh"}, True),
        ({"factor": 2}, True),
        ({"comment": "# Now with a comment.\n"}, False),
    ],
)
def test_code_that_changed_between_runs_is_told(
    tiny: Dataset, tmp_path: Path, changed: dict[str, object], told: bool
) -> None:
    file = tmp_path / "net.py"
    before = {"activation": "ReLU", "factor": 1, "comment": ""}
    file.write_text(CODE.format(**before))
    what = f"{file}:Net"
    given = {"data": tiny, "watch": "quiet"}
    run = fbf.train(what, run=tmp_path / "run", epochs=1, batch_size=20, **given)  # type: ignore[arg-type]
    file.write_text(CODE.format(**{**before, **changed}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fbf.test(run.path, data=tiny, network=what, pictures=False)
    assert ["isn't the one that the run trained" in str(w.message) for w in caught] == [True] * told
    more = fbf.resume(run.path, network=what, epochs=2, allow=["recipe"], **given)  # type: ignore[arg-type]
    notes = " ".join(more.info["resumed"][-1]["notes"])
    assert ("the network's layers, or its code," in notes) == told
