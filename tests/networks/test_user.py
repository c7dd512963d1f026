from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn

from fivebyfive import networks
from fivebyfive.lib.errors import NetworkError
from fivebyfive.networks import user as own

FILE = """
from torch import nn
import helper_beside

class Net(nn.Sequential):
    def __init__(self, width=4):
        super().__init__(nn.Flatten(), nn.Linear(784, helper_beside.CLASSES))

def make():
    import other_beside  # only when it's called
    return Net()

ready = Net()
number = 3
def wants(width):
    return Net(width)
def breaks():
    raise ValueError("no luck")
def leaves():
    raise SystemExit(3)
def gives_none():
    return None
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "helper_beside.py").write_text("CLASSES = 10")
    (tmp_path / "other_beside.py").write_text("")
    path = tmp_path / "net.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("name", ["Net", "make", "ready"])
def test_loads_a_class_a_function_and_a_module(file: Path, name: str) -> None:
    before = list(sys.path)
    assert isinstance(own.find(f"{file}:{name}").make(), nn.Module)
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net", "net.py has no 'net'.*Did you mean 'Net'"),
        ("leaves", "raised SystemExit: 3"),
        ("number", "is of type int; expected a torch.nn.Module"),
        ("wants", "wants.. of .* raised TypeError.*without arguments"),
        ("breaks", "raised ValueError: no luck"),
        ("gives_none", "gave a NoneType; expected a torch.nn.Module"),
    ],
)
def test_says_why_it_cant_be_a_network(file: Path, name: str, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        own.find(f"{file}:{name}").make()


def test_a_file_that_isnt_there_or_raises(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="there is no file"):
        own.find(f"{tmp_path}/none.py:Net").make()
    (tmp_path / "bad.py").write_text("1 / 0")
    with pytest.raises(NetworkError, match="raised ZeroDivisionError"):
        own.find(f"{tmp_path}/bad.py:Net").make()
    (tmp_path / "worse.py").write_text("def (")
    with pytest.raises(NetworkError, match="raised SyntaxError"):
        own.find(f"{tmp_path}/worse.py:Net").make()


def test_the_form_of_the_name() -> None:
    assert networks.is_user_network("a/b.py:Net")
    assert networks.is_user_network("C:\\a\\b.py:Net")
    assert not networks.is_user_network("lenet")
    assert not networks.is_user_network("b.py")
