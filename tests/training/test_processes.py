from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fivebyfive.datasets.splits import Dataset
from fivebyfive.engines.process_group import SINGLE_PROCESS, ProcessGroup
from fivebyfive.lib.errors import DeviceError, ProcessGroupError, RecipeError
from fivebyfive.recipes import Recipe
from fivebyfive.training import processes as together
from fivebyfive.training.processes import check_same, check_share, device_of


def test_on_a_processor_all_share_it() -> None:
    assert (
        device_of("cpu", SINGLE_PROCESS)
        == device_of("cpu", ProcessGroup(1, 2, 1))
        == torch.device("cpu")
    )


def test_each_takes_a_card_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "choose", lambda _: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("auto", ProcessGroup(3, 4, 1)) == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="no card for process 3 on this machine, which has 2"):
        device_of("auto", ProcessGroup(2, 4, 2))


def test_apples_gpu_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "choose", lambda _: torch.device("mps"))
    assert device_of("auto", ProcessGroup(0, 2)) == torch.device("cpu")
    with pytest.raises(DeviceError, match="can't train on mps"):
        device_of("mps", ProcessGroup(0, 2))


def test_there_are_no_more_processes_than_images_in_a_batch() -> None:
    recipe = Recipe(name="r", network="n", batch_size=2)
    check_share(recipe, ProcessGroup(0, 2))
    with pytest.raises(RecipeError, match="3 processes can't share batches of 2 images"):
        check_share(recipe, ProcessGroup(0, 3))


class Pair(ProcessGroup):
    """The first of two processes; the second has the same but for ``other``."""

    def __init__(self, **other: Any) -> None:
        super().__init__(0, 2)
        self.other = other

    def exchange(self, value: Any) -> list[Any]:
        return [value, {**value, **self.other}]


@pytest.mark.parametrize(
    "name",
    [
        "the version of fivebyfive",
        "the version of PyTorch",
        "the kind of device",
        "the setting seed",
        "the content of train-images-idx3-ubyte",
        "the number of images",
        "the network's parameters",
    ],
)
def test_all_that_decides_the_result_must_be_the_same(tiny: Dataset, name: str) -> None:
    digests = {"train-images-idx3-ubyte": "abc"}
    data = Dataset("tiny", tiny.train, tiny.test, tiny.classes, "made up", digests)
    parts = (Recipe(name="r", network="n"), data, nn.Linear(2, 2), torch.device("cpu"))
    check_same(Pair(), *parts)
    with pytest.raises(ProcessGroupError, match=f"{name} is .* in process 0 and else in process 1"):
        check_same(Pair(**{name: "else"}), *parts)
