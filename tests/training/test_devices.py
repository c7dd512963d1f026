from __future__ import annotations

import pytest
import torch

from fivebyfive.lib.errors import DeviceError
from fivebyfive.training import devices


def test_auto_takes_the_best_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.choose("auto").type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.choose("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.choose("auto").type == "cuda"
    assert devices.choose("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match=r"no device 'cuda:2' here.*2 CUDA cards"):
        devices.choose("cuda:2")


@pytest.mark.parametrize(
    ("name", "message"),
    [("gpu", "'gpu' is unknown. Expected auto, cpu"), ("meta", "'meta' isn't supported")],
)
def test_names_that_are_no_devices(name: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        devices.choose(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "cpu:1"])
def test_devices_that_arent_here(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=f"there is no device '{name}' here.*sees: cpu"):
        devices.choose(name)


def test_titles(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "thread" in devices.title(torch.device("cpu"))
    assert devices.title(torch.device("mps")) == "Apple GPU"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some Card")
    assert devices.title(torch.device("cuda")) == "Some Card"
