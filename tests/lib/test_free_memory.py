"""What is held and what there is, read from a made-up /proc and /sys."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from fivebyfive.lib import free_memory as capacity

CPU = torch.device("cpu")
MEMINFO = """\
MemTotal:       24684092 kB
MemFree:        21390540 kB
MemAvailable:    8000000 kB
Buffers:            3240 kB
"""
STATUS = """\
Name:\tpython
VmPeak:\t  900000 kB
VmSize:\t  800000 kB
VmHWM:\t  400000 kB
VmRSS:\t  300000 kB
Threads:\t3
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GB (of 1024) available, no limits, and a process that holds 0.3 GB."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    write(tmp_path / "proc/meminfo", MEMINFO)
    write(tmp_path / "proc/self/status", STATUS)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def group(folder: Path, limit: str, usage: int, files: int, version: int) -> None:
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }
    most, taken, reclaimable = names[version]
    write(folder / most, f"{limit}\n")
    write(folder / taken, f"{usage}\n")
    write(folder / "memory.stat", f"anon 5\n{reclaimable} {files}\nactive_file 7\n")


def test_what_a_process_holds(machine):
    assert capacity.resident(machine) == 300_000 * 1024
    assert capacity.most_resident(machine) == 400_000 * 1024


def test_without_proc_the_most_so_far_must_do(tmp_path):
    assert capacity.resident(tmp_path) == capacity.most_resident(tmp_path) > 10_000_000
    assert capacity.free(CPU, tmp_path) is None


def test_linux_says_what_is_available(machine):
    assert capacity.free(CPU, machine) == 8_000_000 * 1024


def test_the_address_space_may_be_limited(machine, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (900_000 * 1024, 10**12))
    assert capacity.free(CPU, machine) == 100_000 * 1024


def test_more_than_the_address_space_is_nothing_left(machine, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (700_000 * 1024, 10**12))
    assert capacity.free(CPU, machine) == 0


def test_version_2_of_the_control_groups(machine):
    write(machine / "proc/self/cgroup", "0::/user.slice/job\n")
    group(machine / "sys/fs/cgroup/user.slice/job", "1000000", 400_000, 150_000, version=2)
    assert capacity.free(CPU, machine) == 750_000


def test_a_group_further_up_may_be_the_tighter_one(machine):
    write(machine / "proc/self/cgroup", "0::/user.slice/job\n")
    group(machine / "sys/fs/cgroup/user.slice/job", "max", 400_000, 0, version=2)
    group(machine / "sys/fs/cgroup/user.slice", "600000", 500_000, 0, version=2)
    assert capacity.free(CPU, machine) == 100_000


@pytest.mark.parametrize("folder", ["docker/abc", ""], ids=["the host's path", "the root"])
def test_version_1_of_the_control_groups(machine, folder):
    write(
        machine / "proc/self/cgroup",
        "12:pids:/docker/abc\n4:cpu,memory:/docker/abc\n1:name=systemd:/docker/abc\n0::/\n",
    )
    group(machine / "sys/fs/cgroup/memory" / folder, "1000000", 400_000, 100_000, version=1)
    assert capacity.free(CPU, machine) == 700_000


def test_version_1_without_a_limit(machine):
    write(machine / "proc/self/cgroup", "4:memory:/\n")
    group(machine / "sys/fs/cgroup/memory", "9223372036854771712", 400_000, 0, version=1)
    assert capacity.free(CPU, machine) == 8_000_000 * 1024


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs Linux's /proc")
def test_this_very_machine():
    assert 0 < capacity.resident() <= capacity.most_resident()
    assert capacity.free(CPU) > 0
    block = torch.ones(40_000_000)
    assert capacity.resident() > block.nbytes
