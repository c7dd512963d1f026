"""Processes that load a made dataset, for the tests beside it, and the cache that they leave."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.datasets.made import Made

from fivebyfive.datasets.folder import NAMES

ARCHIVES = [f"{name}.gz" for name in NAMES]


class Starter:
    """Starts such processes, by way of start.py."""

    def __enter__(self) -> Starter:
        unset = ("FIVEBYFIVE_DATA", "FIVEBYFIVE_MIRROR", "FIVEBYFIVE_OFFLINE")
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("start.py")],
            env={**environment, "NO_PROXY": "*"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.process.communicate(timeout=60)

    def begin(self, made: Made, cache: Path, count: int = 1, **how: Any) -> None:
        """Start ``count`` processes that load ``made`` into ``cache``; ``how`` as in start.py."""
        files = [[f.name, f.size, f.sha256, f.md5] for f in made.entry.files]
        spec = {"cache": str(cache), "files": files, "mirrors": made.entry.mirrors, **how}
        assert self.process.stdin
        self.process.stdin.write(f"{json.dumps([spec] * count)}\n")
        self.process.stdin.flush()

    def ended(self) -> list[dict[str, Any]]:
        """The exit status of each and what it said, once all have ended."""
        assert self.process.stdout
        answer: list[dict[str, Any]] = json.loads(self.process.stdout.readline())
        return answer

    def status(self, made: Made, cache: Path, **how: Any) -> int:
        """How one process ended."""
        self.begin(made, cache, **how)
        status: int = self.ended()[0]["status"]
        return status

    def found(self, made: Made, cache: Path, count: int = 1, **how: Any) -> list[dict[str, Any]]:
        """What each of ``count`` processes found, all of which must end well."""
        self.begin(made, cache, count, **how)
        ended = self.ended()
        assert all(each["status"] == 0 for each in ended), ended
        return [json.loads(each["said"]) for each in ended]


def digests(made: Made) -> dict[str, str]:
    return {file.name: file.sha256 for file in made.entry.files}


def wrong(made: Made, cache: Path) -> list[str]:
    """What lies in the cache under its final name and isn't right, or is missing."""
    found = []
    for name in NAMES:
        try:
            content = gzip.decompress((cache / "made" / f"{name}.gz").read_bytes())
        except (OSError, EOFError) as error:
            found.append(f"{name}.gz: {error}")
        else:
            if content != made.contents[name]:
                found.append(f"{name}.gz: another content")
    for digest in digests(made).values():
        try:
            content = (cache / "unpacked" / digest).read_bytes()
        except OSError as error:
            found.append(f"{digest}: {error}")
        else:
            if hashlib.sha256(content).hexdigest() != digest:
                found.append(f"{digest}: another content")
    return found


def leftovers(cache: Path) -> list[Path]:
    """Temporary files, which nobody writes to any more."""
    return list(cache.rglob("*.part"))
