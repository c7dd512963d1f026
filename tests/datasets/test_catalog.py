import re
from urllib.parse import urlsplit

import pytest

from fivebyfive.datasets import catalog
from fivebyfive.datasets.folder import NAMES
from fivebyfive.lib.errors import UnknownNameError

ENTRIES = list(catalog.CATALOG.values())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_each_entry_is_complete(entry):
    assert tuple(file.name for file in entry.files) == NAMES
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in entry.files)
    assert len({file.sha256 for file in entry.files}) == 4
    assert len(set(entry.classes)) == 10
    assert entry.licence
    assert entry.mirrors or entry.homes
    if entry.mirrors:
        assert all(re.fullmatch("[0-9a-f]{32}", file.md5) for file in entry.files)
    if entry.stand_in:
        assert catalog.get(entry.stand_in).homes


@pytest.mark.parametrize("url", [url for entry in ENTRIES for url in entry.mirrors])
def test_mirrors_are_https(url):
    assert urlsplit(url).scheme == "https"
    assert not url.endswith("/")


def test_names_are_sorted():
    assert catalog.names() == ["fashion-mnist", "mnist", "sample"]


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'fashion-mnist'"):
        catalog.get("fashion_mnist")
