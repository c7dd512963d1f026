"""A real server on the loopback interface that serves archives, and can fail in every known way."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

#: What a mirror can do wrong, by the name of the method that does it, and how an error names it.
FAULTS = {
    "missing": "404",
    "forbidden": "403",
    "busy": "503",
    "truncated": "IncompleteRead|wrong archive",
    "cut": "wrong archive: .* bytes with MD5",
    "short": "wrong archive: .* bytes with MD5",
    "altered": "wrong archive: .* bytes with MD5",
    "partial": "wrong archive: .* bytes with MD5",
    "encoded": "wrong archive: .* bytes with MD5",
    "empty": "wrong archive: 0 bytes",
    "portal": "a web page came instead",
    "loop": "TooManyRedirects",
    "reset": "reset|aborted|RemoteDisconnected",
    "gibberish": "BadStatusLine",
    "silent": "timed out|no answer",
    "stalled": "timed out|too slow",
    "trickle": "too slow",
    "endless": "more than .* bytes came",
    "oversized": "more than .* bytes came",
}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``/<fault>/<file>.gz``: the file, spoilt in the way the fault says.

    ``/<fault>@<file>/`` spoils that file alone and serves the others as they are.
    """

    server: Mirror

    def do_GET(self):
        _, fault, name = self.path.split("/")
        name = name.removesuffix(".gz")
        fault, _, only = fault.partition("@")
        if only not in ("", name):
            fault = "good"
        self.server.asked.append((fault, name))
        with contextlib.suppress(OSError):  # the client may hang up first
            getattr(self, fault)(self.server.archives[name])

    def good(self, body, status=200, **headers):
        self.begin(len(body), status, **headers)
        for start in range(0, len(body), self.server.piece):
            piece = body[start : start + self.server.piece]
            if not self.server.may_send(len(piece)):
                return
            self.wfile.write(piece)

    def begin(self, length, status=200, **headers):
        self.send_response(status)
        for key, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()

    def missing(self, _):
        self.send_error(404)

    def forbidden(self, _):
        self.send_error(403)

    def busy(self, _):
        self.send_error(503)

    def truncated(self, body):
        self.begin(len(body))
        self.wfile.write(body[:-20])

    def cut(self, body):
        self.good(body[:-20])

    def short(self, body):
        self.begin(len(body) - 20)
        self.wfile.write(body)

    def altered(self, body):
        self.good(body[:-20] + bytes(20))

    def partial(self, body):
        """As if a range had been asked for, which nobody did."""
        half = len(body) // 2
        self.good(body[half:], 206, Content_Range=f"bytes {half}-{len(body) - 1}/{len(body)}")

    def encoded(self, body):
        """Declares the archive to be mere packaging, so that the client takes it off."""
        self.good(body, Content_Encoding="gzip")

    def empty(self, _):
        self.good(b"")

    def portal(self, _):
        self.good(b"<!doctype html><title>Please log in</title>")

    def loop(self, _):
        self.good(b"", 302, Location=self.path)

    def elsewhere(self, _):
        self.good(b"", 302, Location=self.path.replace("elsewhere", "good"))

    def talkative(self, _):
        """Sends the client to where the file is, and goes on talking for ever."""
        self.send_response(302)
        self.send_header("Location", self.path.replace("talkative", "good"))
        self.end_headers()
        while True:
            self.wfile.write(bytes(1 << 16))

    def downgrade(self, _):
        """Sends whoever came by https to the plain mirror."""
        path = self.path.replace("downgrade", "good")
        self.good(b"", 302, Location=f"{self.server.plain}{path}")

    def reset(self, _):
        # With no time to linger, closing sends a reset instead of a proper end.
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def gibberish(self, _):
        self.wfile.write(b"220 mail.example.org ESMTP\r\n")

    def silent(self, _):
        self.server.over.wait(30)

    def stalled(self, body):
        self.begin(len(body))
        self.wfile.write(body[:-20])
        self.server.over.wait(30)

    def trickle(self, body):
        self.begin(len(body))
        for byte in body:
            self.wfile.write(bytes((byte,)))
            if self.server.over.wait(0.1):
                return

    def endless(self, _):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(1 << 16))

    def oversized(self, body):
        self.good(body + bytes(1 << 20))

    def log_message(self, *_):
        pass


class Mirror(http.server.ThreadingHTTPServer):
    """Serves ``archives`` by name.

    ``asked`` lists the faults and files that were asked for. Bodies are sent in pieces of ``piece``
    bytes with a ``pause`` in seconds before each; after ``hold`` bytes of them nothing is sent any
    more and ``held`` is set. ``plain`` is the address that ``downgrade`` sends to.
    """

    request_queue_size = 64

    def __init__(self, archives: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.archives = archives
        self.asked: list[tuple[str, str]] = []
        self.over = threading.Event()
        self.piece, self.pause = 1 << 16, 0.0
        self.hold: int | None = None
        self.held = threading.Event()
        self.plain = ""
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._sent = 0
        self._lock = threading.Lock()

    def may_send(self, count: int) -> bool:
        """Wait as long as a piece takes; whether it is to be sent."""
        time.sleep(self.pause)
        with self._lock:
            self._sent += count
            if self.hold is None or self._sent <= self.hold:
                return True
        self.held.set()
        self.over.wait(30)
        return False

    def handle_error(self, *_: object) -> None:
        """Clients that are killed are what this is for."""


@contextlib.contextmanager
def serving(archives: Mapping[str, bytes], keys: Path | None = None) -> Iterator[Mirror]:
    """A running mirror; one of https with the key and certificate in ``keys``."""
    with Mirror(archives) as server:
        if keys is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(keys / "certificate.pem", keys / "key.pem")
            server.socket = context.wrap_socket(server.socket, server_side=True)
            server.url = f"https://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def make_keys(folder: Path) -> None:
    """Make a key and a certificate for 127.0.0.1 that is signed by nobody but itself.

    Raises:
        OSError: the ``openssl`` command isn't there.
        CalledProcessError: it can't do this.
    """
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", folder / "key.pem", "-out", folder / "certificate.pem"),
        ],
        check=True,
        capture_output=True,
    )
