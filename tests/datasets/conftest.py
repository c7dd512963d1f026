"""A made-up dataset of four tiny IDX files, and places to find it that are the test's own."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fivebyfive.datasets import catalog

from . import made
from .made import Made

OWN_DATA = os.environ.get("FIVEBYFIVE_DATA")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the machine's own data is seen; returns the (missing) cache folder."""
    for name in ("FIVEBYFIVE_DATA", "FIVEBYFIVE_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    cache = tmp_path / "cache"
    monkeypatch.setenv("FIVEBYFIVE_CACHE", str(cache))
    monkeypatch.setenv("NO_PROXY", "*")
    return cache


@pytest.fixture
def own_data(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test see the data that whoever runs it has named by $FIVEBYFIVE_DATA after all."""
    if OWN_DATA:
        monkeypatch.setenv("FIVEBYFIVE_DATA", OWN_DATA)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    return functools.partial(made.make, homes=(tmp_path / "installed",))


@pytest.fixture
def tiny(make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> Made:
    """A tiny dataset that the catalog knows as ``tiny``, with a mirror that can't be reached."""
    tiny = make(mirrors=("http://127.0.0.1:9/tiny",))
    monkeypatch.setitem(catalog.CATALOG, "tiny", tiny.entry)
    return tiny
