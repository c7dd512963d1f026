import gzip
import importlib.util
from pathlib import Path

import pytest

from fivebyfive import datasets
from fivebyfive.datasets import catalog, folder

FOLDER = catalog.SAMPLE.homes[0]
TOOL = Path(__file__).parents[2] / "tools" / "make_sample.py"


def test_it_is_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 3.5e6


def test_it_is_stratified():
    data = datasets.load("sample")
    assert data.train.labels.bincount().tolist() == [600] * 10
    assert data.test.labels.bincount().tolist() == [100] * 10


def test_its_archives_carry_no_time():
    for name in folder.NAMES:
        assert (FOLDER / f"{name}.gz").read_bytes()[4:8] == bytes(4)


def test_its_readme_tells_provenance_licence_and_digests():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for part in ("Zalando SE", "Permission is hereby granted", "make_sample.py"):
        assert part in text
    assert all(file.sha256 in text for file in catalog.SAMPLE.files)


def test_the_tool_makes_it_again():
    if not any(place.folder for place in datasets.status("fashion-mnist")):
        pytest.skip("the full Fashion-MNIST isn't on this machine")
    spec = importlib.util.spec_from_file_location("make_sample", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for name, content in tool.contents().items():
        assert content == gzip.decompress((FOLDER / f"{name}.gz").read_bytes())
