"""How much memory this process holds, and how much more it may take."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_ROOT = Path("/")


def resident(root: Path = _ROOT) -> int:
    """Bytes of real memory that this process holds; where that isn't told, its most so far.

    ``root`` is where ``proc`` and ``sys`` lie, here and below.
    """
    now = _status("VmRSS", root)
    return most_resident(root) if now is None else now


def most_resident(root: Path = _ROOT) -> int:
    """The most bytes of real memory this process has held so far; 0 where nobody tells."""
    most = _status("VmHWM", root)
    if most is not None:
        return most
    if resource is None:
        return 0
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024


def free(device: torch.device, root: Path = _ROOT) -> int | None:
    """Bytes that this process may still take on ``device``; ``None`` where nobody tells.

    On a CPU the least of: what Linux holds available, what is left in each control group that the
    process is in (a container's limit is one), and what is left of its address space
    (``ulimit -v``).
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    limits = (_available(root), _address_space(root), *_groups(root))
    return min((max(0, limit) for limit in limits if limit is not None), default=None)


def _available(root: Path) -> int | None:
    return _entry("MemAvailable", root / "proc/meminfo")


def _address_space(root: Path) -> int | None:
    taken = _status("VmSize", root)
    if resource is None or taken is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit - taken


def _groups(root: Path) -> Iterator[int]:
    """What is left in each control group above this process, of either version."""
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder, names = "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            folder = "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the path may be the host's: then only the group at the root is seen.
        group = PurePosixPath(path.lstrip("/"))
        for each in (group, *group.parents):
            left = _left(root / folder / each, *names)
            if left is not None:
                yield left


def _left(group: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    most, taken = _read(group / limit), _read(group / usage)
    if most is None or taken is None or not most.strip().isdigit():  # "max": no limit
        return None
    # Files' pages count as taken, but are given up where memory gets short.
    files = re.search(rf"^{reclaimable} (\d+)", _read(group / "memory.stat") or "", re.MULTILINE)
    return int(most) - int(taken) + (int(files.group(1)) if files else 0)


def _status(name: str, root: Path) -> int | None:
    return _entry(name, root / "proc/self/status")


def _entry(name: str, path: Path) -> int | None:
    """``name: 123 kB`` in a file, as bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", _read(path) or "", re.MULTILINE)
    return 1024 * int(found.group(1)) if found else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
