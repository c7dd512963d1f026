"""Downloads from a real server on the loopback interface, which can fail in every way we know."""

import dataclasses
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from fivebyfive.datasets import fetch
from fivebyfive.datasets.folder import NAMES
from fivebyfive.lib import files
from fivebyfive.lib.errors import DataError

from .mirror import FAULTS, serving


@pytest.fixture
def server(tiny):
    with serving(tiny.archives) as server:
        yield server


@pytest.fixture
def served(tiny, server):
    """The tiny dataset with mirrors on the server, one for each fault named."""

    def served(*faults):
        return dataclasses.replace(tiny.entry, mirrors=tuple(f"{server.url}/{f}" for f in faults))

    return served


def right(folder, tiny):
    """Exactly the four archives lie there, and no temporary file."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    return found == {f"{name}.gz": tiny.archives[name] for name in NAMES}


def test_fetches_all_four(served, tiny, tmp_path):
    fetch.fetch(served("good"), tmp_path / "new" / "folder")
    assert right(tmp_path / "new" / "folder", tiny)


#: Those that wait for a deadline.
WAITING = ("trickle", "stalled", "silent")


@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, marks=[pytest.mark.slow] if f in WAITING else []) for f in FAULTS],
)
def test_every_failure_moves_on_to_the_next_mirror(
    fault, served, server, tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr(fetch, "TIMEOUT", (0.5, 0.5))
    fetch.fetch(served(fault, "good"), tmp_path / "to", deadline=2.0)
    assert right(tmp_path / "to", tiny)
    # What failed once isn't asked again, as the mirror that works comes first from then on.
    assert len({name for f, name in server.asked if f == fault}) == 1

    with pytest.raises(fetch.FetchError, match=FAULTS[fault]) as error:
        fetch.fetch(served(fault), tmp_path / "none", deadline=1.0)
    assert f"{server.url}/{fault}/{NAMES[0]}.gz: " in error.value.failures[0]
    assert list((tmp_path / "none").iterdir()) == []


def test_a_mirror_that_cant_be_reached_moves_on_too(served, tiny, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused
        entry = served("good")
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
        entry = dataclasses.replace(
            entry, mirrors=(dead, "http://no such host", "ftp://x", *entry.mirrors)
        )
        fetch.fetch(entry, tmp_path)
    assert right(tmp_path, tiny)


def test_when_all_fail_each_is_named(served, server, tmp_path):
    with pytest.raises(fetch.FetchError) as error:
        fetch.fetch(served("missing", "portal", "busy"), tmp_path)
    assert len(error.value.failures) == 3
    for fault in ("missing", "portal", "busy"):
        assert f"{server.url}/{fault}/" in str(error.value)


def test_time_that_has_run_out(served, tmp_path):
    with pytest.raises(fetch.FetchError, match="the time for downloading had run out"):
        fetch.fetch(served("good"), tmp_path, deadline=0.0)


def test_patience_with_a_silent_mirror_ends(served, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "PATIENCE", 0.3)
    with pytest.raises(fetch.FetchError, match="no answer in 0 s"):
        fetch.fetch(served("silent"), tmp_path)
    fetch.fetch(served("silent", "good"), tmp_path)
    assert right(tmp_path, tiny)


@pytest.mark.parametrize("how", ["elsewhere", "talkative"])
def test_a_redirect_is_followed(served, tiny, tmp_path, how):
    fetch.fetch(served(how), tmp_path, deadline=5.0)
    assert right(tmp_path, tiny)


@pytest.mark.parametrize("password", ["secret", "s:ecret", "s@ecret", "s%40ecret"])
def test_no_message_tells_a_password(served, server, tmp_path, password):
    address = server.url.replace("//", f"//somebody:{password}@")
    mirrors = (f"{address}/missing", f"{address}/loop", address.replace("http", "ftp"))
    entry = dataclasses.replace(served("good"), mirrors=(*mirrors, f"http://a:{password}@b:c"))
    with pytest.raises(fetch.FetchError) as error:
        fetch.fetch(entry, tmp_path)
    assert len(error.value.failures) == 4
    assert "404" in error.value.failures[0]
    assert "ecret" not in str(error.value)
    assert "somebody" not in str(error.value)


@pytest.mark.parametrize("address", ["http://b/x", "ftp://b/x"])
def test_a_redirect_from_https_to_http_is_refused(address):
    response = requests.Response()
    response.url, response.headers["location"] = "https://a/x", address
    with pytest.raises(DataError, match="redirects from https"):
        fetch.refuse_downgrade(response)


@pytest.mark.parametrize("address", ["https://b/x", "/x", ""])
def test_a_redirect_from_https_to_https_is_not(address):
    response = requests.Response()
    response.url, response.headers["location"] = "https://a/x", address
    fetch.refuse_downgrade(response)


def test_the_content_is_checked_beside_the_archive(served, tmp_path):
    entry = served("good")
    first = dataclasses.replace(entry.files[0], sha256="0" * 64)
    entry = dataclasses.replace(entry, files=(first, *entry.files[1:]))
    with pytest.raises(fetch.FetchError, match="wrong content: SHA-256"):
        fetch.fetch(entry, tmp_path)


def test_the_users_mirror_comes_first(served, server, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("FIVEBYFIVE_MIRROR", "http://mine.example/")
    assert fetch.mirrors(served("good")) == ["http://mine.example/tiny", f"{server.url}/good"]
    monkeypatch.setenv("FIVEBYFIVE_MIRROR", "no-address")
    fetch.fetch(served("good"), tmp_path)
    assert right(tmp_path, tiny)


@pytest.mark.parametrize("gz", [True, False])
def test_right_files_are_kept_and_wrong_ones_replaced(gz, served, server, tiny, tmp_path):
    tiny.put(tmp_path, gz=gz)
    broken = tmp_path / f"{NAMES[2]}{'.gz' if gz else ''}"
    broken.write_bytes(broken.read_bytes()[:-1])
    fetch.fetch(served("good"), tmp_path)
    assert server.asked == [("good", NAMES[2])]
    assert (tmp_path / f"{NAMES[2]}.gz").read_bytes() == tiny.archives[NAMES[2]]


def test_whoever_is_stopped_while_writing_leaves_nothing(served, tmp_path, monkeypatch):
    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_flush", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch(served("good"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cant_be_written_is_told(served, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(fetch.FetchError, match="can't be written"):
        fetch.fetch(served("good"), tmp_path / "file" / "below")


def test_many_at_once(served, tiny, tmp_path):
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(fetch.fetch, served("good"), tmp_path) for _ in range(6)]:
            done.result()
    assert right(tmp_path, tiny)


def test_a_progress_bar_only_in_a_terminal(served, tmp_path, monkeypatch, capsys):
    fetch.fetch(served("good"), tmp_path / "piped")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch.fetch(served("good"), tmp_path / "terminal")
    out, err = capsys.readouterr()
    assert out == ""
    assert "100%" in err
