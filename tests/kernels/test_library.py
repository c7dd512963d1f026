"""Which kernels are at work, and what is said about it."""

import ctypes
import os
import shutil
import signal
import subprocess

import pytest
import torch

from fivebyfive.kernels import library
from fivebyfive.kernels.accelerate import accelerate
from fivebyfive.kernels.library import VARIABLE, kernels, report, usable
from fivebyfive.networks import build


def test_the_fastest_is_taken(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    told = report()
    assert told.active == told.usable[0] == next(iter(usable()))
    assert told.usable[-1] == "plain"
    assert "fastest" in told.reason
    assert kernels().name.decode() == told.active


def test_any_can_be_forced(isa):
    assert kernels().name.decode() == report().active == isa
    assert VARIABLE in report().reason


def test_an_unknown_name_is_told(monkeypatch):
    monkeypatch.setenv(VARIABLE, "mmx")
    assert "mmx" in report().reason
    assert report().active == next(iter(usable()))


def test_turned_off(monkeypatch):
    monkeypatch.setenv(VARIABLE, "none")
    assert kernels() is None
    assert report().active is None
    assert VARIABLE in report().reason


@pytest.fixture
def nothing_built(monkeypatch, tmp_path):
    usable.cache_clear()
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    yield tmp_path
    usable.cache_clear()


def test_without_a_library_everything_runs_in_pytorch(nothing_built, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert kernels() is None
    assert "never built" in report().reason
    network, x = build("lenet"), torch.rand(2, 1, 28, 28)
    assert torch.equal(accelerate(network)(x), network.forward(x))


def test_the_compilers_complaint_is_passed_on(nothing_built):
    (nothing_built / "_blocks.txt").write_text("c++: out of patience\n")
    assert "out of patience" in report().reason


def test_a_library_that_does_not_load_is_told(nothing_built):
    (nothing_built / "_blocks.so").write_bytes(b"not a library")
    assert report().active is None
    assert "_blocks.so" in report().reason


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_can_use_the_kernels():
    network, x = accelerate(build("lenet")), torch.rand(64, 1, 28, 28)
    with torch.no_grad():
        expected = network(x)
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # hanging would be the failure
            os._exit(0 if torch.equal(network(x), expected) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert torch.equal(network(x), expected)


def test_structures_have_the_librarys_sizes():
    size = ctypes.CDLL(str(library._path())).fbf_structure_size
    size.restype = ctypes.c_size_t
    mirrored = ("Layer", "Chain", "Images", "Loss", "Parameter", "Update")
    mirrored += ("Weights", "WideConvolution", "BatchNorm", "MaxPool", "ChannelsLast", "Kernels")
    sizes = [ctypes.sizeof(getattr(library, name)) for name in mirrored]
    assert [size(index) for index in range(len(mirrored) + 1)] == [*sizes, 0]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('extern "C" int fbf_kernels(int) { return 1; }', "ABI none"),
        (f'extern "C" int fbf_abi() {{ return {library.ABI - 1}; }}', f"ABI {library.ABI - 1}"),
    ],
)
def test_a_library_of_another_version_is_refused(nothing_built, source, told):
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if not compiler:
        pytest.skip("no C++ compiler")
    (nothing_built / "old.cpp").write_text(source)
    built = nothing_built / "_blocks.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", built, nothing_built / "old.cpp"], check=True
    )
    assert report().active is None
    assert f"{told}, expected {library.ABI}" in report().reason
    assert "python setup.py build_ext --inplace" in report().reason
