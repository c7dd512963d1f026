"""A mirror fails in one of many ways, at one of the four files: the next mirror gives it. With no
other left, an error says so, in time.
"""

from __future__ import annotations

import dataclasses
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.datasets import made as making
from tests.datasets.made import Made
from tests.datasets.mirror import FAULTS, Mirror, make_keys, serving

from fivebyfive.datasets import fetch
from fivebyfive.datasets.catalog import Entry
from fivebyfive.datasets.folder import NAMES

#: Seconds for all four files. What hangs must be given up early enough for the next mirror.
DEADLINE = 2.0
#: And how much longer a busy machine may take to say so.
SLACK = 2.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT", (0.4, 0.4))
    monkeypatch.setattr(fetch, "PATIENCE", 0.6)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("FIVEBYFIVE_MIRROR", raising=False)


@pytest.fixture(scope="module")
def made() -> Made:
    return making.make()


@pytest.fixture
def server(made: Made) -> Iterator[Mirror]:
    with serving(made.archives) as server:
        yield server


@pytest.fixture
def https(
    made: Made, server: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mirror]:
    """A mirror of https whose certificate is trusted, beside the plain one."""
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl command, to make a certificate")
    try:
        make_keys(tmp_path)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"openssl can't make a certificate: {error.stderr}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
    with serving(made.archives, tmp_path) as https:
        https.plain = server.url
        yield https


@pytest.fixture
def refused() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


#: Faults that take a deadline's seconds.
WAITING = ("silent", "stalled", "trickle")


def cases(faults: Iterable[str]) -> list[object]:
    """Every fault at every file; one of each is in the default run, but for those that wait.

    ``tests/datasets/test_fetch.py`` has these.
    """
    return [
        pytest.param(
            fault,
            name,
            marks=() if (i + j) % 4 == 0 and fault not in WAITING else pytest.mark.faults,
        )
        for i, fault in enumerate(faults)
        for j, name in enumerate(NAMES)
    ]


def check(made: Made, folder: Path, name: str, faulty: str, good: str, reason: str) -> None:
    """``faulty`` is the address of a mirror at which the file ``name`` isn't available."""
    for below in ("then good", "twice"):
        made.put(folder / below)
        (folder / below / f"{name}.gz").unlink()

    begun = time.monotonic()
    fetch.fetch(with_mirrors(made, faulty, good), folder / "then good", DEADLINE)
    assert time.monotonic() - begun < DEADLINE + SLACK
    found = {path.name: path.read_bytes() for path in (folder / "then good").iterdir()}
    assert found == {f"{each}.gz": archive for each, archive in made.archives.items()}

    begun = time.monotonic()
    with pytest.raises(fetch.FetchError, match=reason) as error:
        fetch.fetch(with_mirrors(made, faulty, faulty), folder / "twice", DEADLINE)
    assert time.monotonic() - begun < DEADLINE + SLACK
    assert all(f"{faulty}/{name}.gz: " in failure for failure in error.value.failures)
    assert len(error.value.failures) == 2
    assert len(list((folder / "twice").iterdir())) == 3


def with_mirrors(made: Made, *mirrors: str) -> Entry:
    return dataclasses.replace(made.entry, mirrors=mirrors)


@pytest.mark.parametrize(("fault", "name"), cases(FAULTS))
def test_a_mirror_that_fails(
    fault: str, name: str, made: Made, server: Mirror, tmp_path: Path
) -> None:
    faulty, good = f"{server.url}/{fault}", f"{server.url}/good"
    check(made, tmp_path, name, faulty, good, FAULTS[fault])


@pytest.mark.parametrize(("fault", "name"), cases(FAULTS))
def test_a_mirror_that_fails_at_one_file_of_the_four(
    fault: str, name: str, made: Made, server: Mirror, tmp_path: Path
) -> None:
    faulty = with_mirrors(made, f"{server.url}/{fault}@{name}", f"{server.url}/good")
    fetch.fetch(faulty, tmp_path, DEADLINE)
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {f"{each}.gz": archive for each, archive in made.archives.items()}


@pytest.mark.parametrize(("fault", "name"), cases(["refused"]))
def test_a_mirror_where_nobody_listens(
    fault: str, name: str, made: Made, server: Mirror, refused: str, tmp_path: Path
) -> None:
    check(made, tmp_path, name, refused, f"{server.url}/good", "refused")


@pytest.mark.parametrize(("fault", "name"), cases(["nowhere"]))
def test_a_mirror_whose_name_nobody_knows(
    fault: str, name: str, made: Made, server: Mirror, tmp_path: Path
) -> None:
    reason = "(?i)resol|no answer|name|address"
    check(made, tmp_path, name, "http://nowhere.invalid", f"{server.url}/good", reason)


@pytest.mark.parametrize(("fault", "name"), cases(["downgrade"]))
def test_a_mirror_that_leads_from_https_to_http(
    fault: str, name: str, made: Made, server: Mirror, https: Mirror, tmp_path: Path
) -> None:
    faulty, good = f"{https.url}/downgrade", f"{https.url}/good"
    check(made, tmp_path, name, faulty, good, "redirects from https to http:.* isn't safe")
    assert server.asked == []


@pytest.mark.parametrize(("fault", "name"), cases(["untrusted"]))
def test_a_mirror_that_cant_prove_who_it_is(
    fault: str,
    name: str,
    made: Made,
    server: Mirror,
    https: Mirror,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    check(made, tmp_path, name, f"{https.url}/good", f"{server.url}/good", "(?i)certificate")
