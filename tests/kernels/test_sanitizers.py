"""The C++ under the address and undefined-behaviour sanitizers."""

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import fivebyfive.kernels

SOURCES = Path(fivebyfive.kernels.__file__).parent / "cpp"
DRIVER = Path(__file__).parent / "driver.cpp"
FLAGS = ["-std=c++17", "-O0", "-g", "-Wall", "-Wextra", "-Werror", "-ffp-contract=fast"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
SETS = {
    "plain": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma"],
}


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if not compiler:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("sanitizers")
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    flags = [*FLAGS, *SANITIZERS, f"-I{SOURCES}", *(["-DFBF_X86"] if x86 else [])]
    jobs = {
        folder / f"{s.stem}.o": [s]
        for s in (DRIVER, SOURCES / "threads.cpp", SOURCES / "dispatch.cpp")
    }
    for name in SETS if x86 else ["plain"]:
        for part in ("chain", "channels_last"):
            source = SOURCES / f"{part}.cpp"
            jobs[folder / f"{part}_{name}.o"] = [*SETS[name], f"-DFBF_ISA={name}", source]

    def compile_one(job):
        subprocess.run([compiler, *flags, *job[1], "-c", "-o", job[0]], check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, jobs.items()))
    program = folder / "driver"
    subprocess.run([compiler, *SANITIZERS, "-pthread", *jobs, "-o", program], check=True)
    return program


@pytest.mark.slow
def test_random_shapes_run_clean(driver):
    done = subprocess.run([driver, "40"], check=False, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-1] == "plain"
