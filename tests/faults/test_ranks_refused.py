"""What several processes can't do is told once, before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .ranks import finished, needs_gloo, statuses, torchrun, train

pytestmark = needs_gloo

BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "more processes than images": (
        ("lenet", "--data", "sample", "--batch-size", "1"),
        "2 processes can't share batches of 1 images",
    ),
    "data that isn't there": (("lenet", "--data", "nowhere"), "unknown dataset 'nowhere'"),
    "a folder that is taken": (
        ("lenet", "--data", "sample", "--run", "."),
        "isn't empty; a run never overwrites",
    ),
}


@pytest.mark.faults
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_told_once(tmp_path: Path, case: str) -> None:
    options, message = BAD[case]
    (tmp_path / "something").touch()
    process = train(tmp_path, *options)
    output, errors = finished(process)
    assert output == ""
    assert errors.count("fivebyfive: ") == 1, errors
    assert message in errors
    assert statuses(errors) == [2, 2]


DIFFERENT = {
    "version": (
        "import fivebyfive.version as v; v.__version__ = '0.0'",
        "the version of fivebyfive is",
    ),
    "torch": ("import torch; torch.__version__ = '0.0'", "the version of PyTorch is"),
    "recipe": ("sys.argv += ['--lr', '0.5']", "the setting lr is 0.9 in process 0 and 0.5 in"),
    "data": ("sys.argv += ['--data', 'other']", "the content of "),
    "device": ("sys.argv += ['--device', 'cuda:77']", "there is no device 'cuda:77' here"),
}


@pytest.mark.faults
@pytest.mark.parametrize("case", DIFFERENT)
def test_processes_that_differ_are_told_apart(tmp_path: Path, tiny_folder: Path, case: str) -> None:
    change, message = DIFFERENT[case]
    shutil.copytree(tiny_folder, tmp_path / "mine")
    shutil.copytree(tiny_folder, tmp_path / "other")
    labels = tmp_path / "other" / "t10k-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[-1] ^= 1
    labels.write_bytes(content)
    (tmp_path / "start.py").write_text(
        "import os, sys\n"
        "import fivebyfive\n"
        "sys.argv[1:] = ['train', 'lenet', '--data', 'mine', '--epochs', '1', '--device', 'cpu']\n"
        "if os.environ['RANK'] == '1':\n"
        f"    {change}\n"
        "from fivebyfive.cli import program\n"
        "sys.exit(program())\n"
    )
    process = torchrun(2, "start.py", cwd=tmp_path)
    _, errors = finished(process)
    assert errors.count("fivebyfive: ") == 1, errors
    assert message in errors
    assert statuses(errors) == [2, 2]
    assert not (tmp_path / "runs").exists()
