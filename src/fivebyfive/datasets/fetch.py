"""Downloading a dataset's files from its mirrors, so that only proven files reach the cache.

A download is held in memory until both its digests are right, and only then written, under a
temporary name, and renamed: whoever is killed on the way, and however many processes fetch the same
dataset at once, nobody meets a half-written or a wrong file. Whatever goes wrong at one mirror, the
next one is tried. ``$FIVEBYFIVE_MIRROR`` names a mirror of the user's own to try first; it holds
``<dataset>/<file>.gz``.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from ..lib import files
from ..lib.errors import DataError
from . import idx
from .catalog import Entry, File
from .folder import find

if TYPE_CHECKING:
    from requests import Response

#: Seconds that fetching one dataset may take, all files and mirrors together.
DEADLINE = 900.0
#: Seconds to wait for a connection, and for the next bytes of a download.
TIMEOUT = (6.0, 20.0)
#: Seconds to wait for the first answer of a mirror, however many addresses its name has.
PATIENCE = 15.0
#: Bytes by which an archive may at most be larger than its content.
_PACKAGING = 1 << 16
_CHUNK = 1 << 16
#: The user and password in an address, which no message may tell.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")


class FetchError(DataError):
    """No mirror gave a file; ``failures`` says what happened at each."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__("The download failed:\n" + "\n".join(f"  {f}" for f in failures))
        self.failures = failures


def mirrors(entry: Entry) -> list[str]:
    """Where ``entry`` is downloaded from, in order: the user's own mirror, then the catalog's."""
    own = os.environ.get("FIVEBYFIVE_MIRROR")
    return [f"{own.rstrip('/')}/{entry.name}", *entry.mirrors] if own else list(entry.mirrors)


def fetch(entry: Entry, folder: Path, deadline: float = DEADLINE) -> list[Path]:
    """See to it that ``folder`` holds the four files of ``entry``; what is right there is kept.

    Returns the files that were downloaded.

    ``deadline`` is in seconds, for all together. A slow mirror is left when it has used up its
    fair share of the time that remains, so that each of the others still has a chance.

    Raises:
        FetchError: a file is on no mirror, or the folder can't be written.
    """
    end = time.monotonic() + deadline
    sources = mirrors(entry)
    fetched = []
    try:
        files.make_folder(folder)
        for file in entry.files:
            if _is_right(folder, file):
                continue
            content, good = _download_file(file, sources, end)
            path = folder / f"{file.name}.gz"
            files.write_bytes(path, content)
            fetched.append(path)
            # What worked for one file is tried first for the next.
            sources.sort(key=lambda source: source != good)
    except OSError as error:
        need = sum(file.size for file in entry.files)
        reason = f"{folder} can't be written: {error.strerror or error}"
        raise FetchError([f"{reason} (up to {need:,} bytes are needed)"]) from error
    return fetched


def _is_right(folder: Path, file: File) -> bool:
    path = find(folder, file.name)
    if path is None:
        return False
    try:
        return idx.read(path, idx.kind_of(path), file.size).sha256 == file.sha256
    except DataError:
        return False


def _download_file(file: File, sources: list[str], end: float) -> tuple[bytes, str]:
    """One archive, proven, from the first mirror that gives it; and which one that was."""
    failures = []
    for tried, source in enumerate(sources):
        url = f"{source}/{file.name}.gz"
        share = (end - time.monotonic()) / (len(sources) - tried)
        try:
            content = download(url, share, file.size + _PACKAGING)
            _prove(content, file)
        except DataError as error:
            failures.append(_CREDENTIALS.sub("", f"{url}: {error}"))
            continue
        return content, source
    raise FetchError(failures)


def _prove(content: bytes, file: File) -> None:
    """Check both digests of a downloaded archive.

    Raises:
        DataError: it isn't the file it should be.
    """
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != file.md5:
        page = " (a web page came instead)" if content.lstrip()[:1] == b"<" else ""
        raise DataError(
            f"wrong archive{page}: {len(content):,} bytes with MD5 {found}, expected {file.md5}"
        )
    path = Path(f"{file.name}.gz")
    found = idx.parse(io.BytesIO(content), len(content), idx.kind_of(path), path, file.size).sha256
    if found != file.sha256:
        raise DataError(f"wrong content: SHA-256 {found}, expected {file.sha256}")


def download(url: str, seconds: float, most: int) -> bytes:
    """The bytes at an http or https address, ``most`` of them at most, within ``seconds``.

    Raises:
        DataError: they wasn't available, whatever the reason; in time, in any case.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError("expected an address that starts with https:// or http://")
    if seconds <= 0:
        raise DataError("not tried: the time for downloading had run out")
    # requests' timeouts run anew with each byte that comes, so a mirror that trickles could hold us
    # for ever. Hence a thread that can be left to itself when the time is up.
    attempt = _Attempt(url, most)
    attempt.start()
    end = time.monotonic() + seconds
    if attempt.answered.wait(min(seconds, PATIENCE)):
        attempt.join(max(0.0, end - time.monotonic()))
    return attempt.result(seconds)


class _Attempt(threading.Thread):
    """One download; a daemon, so that one that hangs doesn't keep the program from ending."""

    def __init__(self, url: str, most: int) -> None:
        super().__init__(daemon=True, name=f"download {url}")
        self.url = url
        self.buffer = _Buffer(most)
        self.answered = threading.Event()
        self.responses: list[Response] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        # Only here: it brings tqdm, which warns in every notebook that lacks ipywidgets.
        import pooch  # type: ignore[import-untyped]

        try:
            downloader = pooch.HTTPDownloader(
                progressbar=sys.stderr is not None and sys.stderr.isatty(),
                chunk_size=_CHUNK,
                timeout=TIMEOUT,
                # Without it a server may unpack the .gz on the way, and no digest would fit.
                headers={"User-Agent": "fivebyfive", "Accept-Encoding": "identity"},
                hooks={"response": self.watch},
            )
            downloader(self.url, self.buffer, None)
        except Exception as error:
            self.failure = error
        finally:
            self.answered.set()
            # Pooch leaves them open when anything went wrong.
            for response in self.responses:
                response.close()

    def watch(self, response: Response, **_: Any) -> None:
        """Called with each response, redirects among them, before it is acted upon."""
        self.answered.set()
        self.responses.append(response)
        refuse_downgrade(response)
        if response.is_redirect:
            response.close()  # or requests reads all that came with it, however much that is

    def result(self, seconds: float) -> bytes:
        """What came, once the time is up."""
        if self.is_alive():
            self.buffer.abandoned = True
            if not self.answered.is_set():
                raise DataError(f"no answer in {min(seconds, PATIENCE):.0f} s")
            raise DataError(f"too slow: {self.buffer.tell():,} bytes in {seconds:.0f} s")
        if self.failure is not None:
            raise DataError(_in_words(self.failure)) from self.failure
        return self.buffer.getvalue()


class _Buffer(io.BytesIO):
    """Takes a download up to a bound, and no more once nobody waits for it."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.abandoned = False

    def write(self, chunk: Any, /) -> int:
        if self.abandoned:
            raise DataError("nobody waits for it any more")
        if self.tell() + len(chunk) > self.most:
            raise DataError(f"more than {self.most:,} bytes came")
        return super().write(chunk)


def refuse_downgrade(response: Response) -> None:
    """Raise a DataError if ``response`` redirects from https to anything that isn't."""
    target = urljoin(response.url, response.headers.get("location", ""))
    if response.url.startswith("https://") and not target.startswith("https://"):
        raise DataError(f"it redirects from https to {target}, which isn't safe")


def _in_words(error: Exception) -> str:
    """The innermost reason; requests wraps it in three layers of its own."""
    while error.__context__ is not None and isinstance(error.__context__, Exception):
        error = error.__context__
    return f"{error}" if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
