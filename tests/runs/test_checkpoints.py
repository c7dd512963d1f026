from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fivebyfive.lib.errors import CheckpointError, NetworkError
from fivebyfive.runs import checkpoints, tensors

LARGEST = 1 << 20


def write(run: Path, number: int, value: float = 0.5) -> Path:
    weights = tensors.packed({"weight": torch.full((3, 2), value)})
    moments = tensors.packed({"weight/step": torch.tensor(7.0)})
    checkpoints.write(run, number, weights, moments, {"number": number})
    return checkpoints.place(run, number)


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    write(tmp_path, 1, 0.25)
    found = checkpoints.read(tmp_path, 1, LARGEST)
    assert found.state == {"number": 1}
    target = {"weight": torch.zeros(3, 2)}
    found.restore(target)
    assert torch.equal(target["weight"], torch.full((3, 2), 0.25))
    assert found.optimizer() == {"weight/step": torch.tensor(7.0)}
    with pytest.raises(NetworkError, match=r"weight is \[3, 2\], expected \[2, 3\]"):
        found.restore({"weight": torch.zeros(2, 3)})


def test_pruning_leaves_those_to_keep(tmp_path: Path) -> None:
    for number in range(1, 8):
        write(tmp_path, number)
    checkpoints.prune(tmp_path, keep=[3, 6, 7])
    assert checkpoints.numbers(tmp_path) == [3, 6, 7]
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_without_any(tmp_path: Path) -> None:
    assert checkpoints.numbers(tmp_path) == []
    assert checkpoints.newest(tmp_path, LARGEST) == (None, [])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("two")
    write(run, 1, 0.25)
    write(run, 2, 0.75)
    return run


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_any_damage_is_seen_and_the_one_before_used(
    two: Path, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = random.Random(seed)
    run = tmp_path_factory.mktemp("damaged") / "r"
    shutil.copytree(two, run)
    file = rng.choice(sorted(checkpoints.place(run, 2).iterdir()))
    content = bytearray(file.read_bytes())
    where = rng.randrange(len(content))
    kind = rng.choice(["flip", "cut", "missing", "empty", "longer", "swapped", "folder"])
    match kind:
        case "flip":
            content[where] ^= 1 << rng.randrange(8)
            file.write_bytes(content)
        case "cut":
            file.write_bytes(content[:where])
        case "missing":
            file.unlink()
        case "empty":
            file.write_bytes(b"")
        case "longer":
            file.write_bytes(bytes(content) + b"\0")
        case "swapped":
            shutil.copy(checkpoints.place(run, 1) / file.name, file)
        case "folder":
            file.unlink()
            file.mkdir()
    same = (
        file.is_file() and file.read_bytes() == (checkpoints.place(two, 2) / file.name).read_bytes()
    )
    found, damaged = checkpoints.newest(run, LARGEST)
    assert found is not None
    if same or _harmless(file, two):
        assert found.number == 2
    else:
        assert (found.number, len(damaged)) == (1, 1), (seed, kind, file.name)
        assert "checkpoints" in damaged[0]


def _harmless(file: Path, two: Path) -> bool:
    """A manifest that still says the same: a flipped bit may fall into white space."""
    if file.name != "manifest.json" or not file.is_file():
        return False
    try:
        changed = json.loads(file.read_bytes())
    except ValueError:
        return False
    return bool(changed == json.loads((checkpoints.place(two, 2) / file.name).read_bytes()))


def test_a_checkpoint_under_another_number_is_not_taken_for_it(two: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoints.place(two, 1), tmp_path / "checkpoints" / "000009")
    with pytest.raises(CheckpointError, match="number 1; expected 1 and 9"):
        checkpoints.read(tmp_path, 9, LARGEST)


def test_no_larger_file_than_the_network_can_have_is_read(two: Path) -> None:
    with pytest.raises(CheckpointError, match="bytes; expected"):
        checkpoints.read(two, 1, largest=10)


def test_tied_weights_may_be_there_under_one_name(tmp_path: Path) -> None:
    net = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    net["b"].weight = net["a"].weight
    path = tmp_path / "w"
    path.write_bytes(tensors.packed({"a.weight": torch.eye(2)}))
    tensors.read_into(path, net.state_dict())
    assert torch.equal(net["b"].weight, torch.eye(2))
    path.write_bytes(tensors.packed({"c": torch.eye(2)}))
    with pytest.raises(NetworkError, match=r"b\.weight is missing; c is unknown"):
        tensors.read_into(path, net.state_dict())
    with pytest.raises(NetworkError, match="isn't there"):
        tensors.read_into(tmp_path / "none", net.state_dict())
    path.write_bytes(bytes(1 << 21))
    with pytest.raises(NetworkError, match=r"2,097,152 bytes; expected about 32"):
        tensors.read_into(path, net.state_dict())
    path.write_bytes(b"{")
    with pytest.raises(NetworkError, match="don't fit the network"):
        tensors.read_into(path, net.state_dict())
    with pytest.raises(NetworkError, match="can't be read"):
        tensors.read(path)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
KINDS = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
]


@st.composite
def some_tensors(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    shapes = st.lists(st.integers(0, 3), max_size=4)
    names = draw(st.lists(NAMES.filter(lambda name: name != "__metadata__"), unique=True))
    return {
        name: torch.randint(0, 2, draw(shapes)).to(draw(st.sampled_from(KINDS))) for name in names
    }


@given(some_tensors())
@settings(deadline=None)
def test_files_are_the_librarys_byte_for_byte(made: dict[str, torch.Tensor]) -> None:
    assert bytes(tensors.packed(made)) == safetensors.torch.save(made, metadata={"format": "pt"})


def test_a_copy_is_plain_and_no_later_step_changes_it() -> None:
    weight = torch.arange(16.0).view(1, 2, 2, 4).to(memory_format=torch.channels_last)
    kept = tensors.packed({"a": weight, "b": weight})  # tied weights stand there once
    weight.zero_()
    read = safetensors.torch.load(bytes(kept))
    assert list(read) == ["a"]
    assert torch.equal(read["a"].flatten(), torch.arange(16.0))


def test_numbers_that_no_file_holds() -> None:
    with pytest.raises(NetworkError, match=r"w is of type torch\.complex64, which"):
        tensors.packed({"w": torch.zeros(1, dtype=torch.complex64)})
