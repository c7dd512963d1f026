"""Compiles the CPU kernels; all else about the package is in pyproject.toml.

The kernels are plain C++17 that needs no headers but the compiler's own, compiled once for each
instruction set and linked into one library that chooses among them at run time. They are optional:
without a compiler the package installs all the same, runs on PyTorch alone, and keeps the reason in
``kernels/_blocks.txt``, where ``fivebyfive doctor`` finds it.

In a working copy: ``python setup.py build_ext --inplace``. ``$CXX`` names the compiler.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCES = Path("src/fivebyfive/kernels/cpp")
# Nothing here hides NaN or Inf: without errno, square roots can be taken a vector at a time.
ARITHMETIC = ["-ffp-contract=fast", "-fno-math-errno"]
FLAGS = ["-std=c++17", "-O3", *ARITHMETIC, "-fPIC", "-fvisibility=hidden"]
X86 = {
    "avx512": [
        "-mavx512f",
        "-mavx512bw",
        "-mavx512vl",
        "-mavx512dq",
        "-mfma",
        "-mprefer-vector-width=512",
    ],
    "avx2": ["-mavx2", "-mfma"],
    "plain": [],
}


class BuildKernels(build_ext):
    """Compile the sources for every instruction set of this kind of processor, and link them."""

    def get_ext_filename(self, fullname):
        """One name for every Python: the library isn't made for any of them in particular."""
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext):
        """Leave the library, or else a note on why there is none."""
        library = Path(self.get_ext_fullpath(ext.name))
        note = library.with_suffix(".txt")
        library.parent.mkdir(parents=True, exist_ok=True)
        for old in (library, note):
            old.unlink(missing_ok=True)
        try:
            compile_kernels(library)
        except (OSError, subprocess.SubprocessError) as error:
            reason = (getattr(error, "stderr", None) or str(error)).strip()
            note.write_text(reason[-2000:] + "\n", encoding="utf-8")
            print(f"The CPU kernels were not built, PyTorch will do their work: {reason}")

    def copy_extensions_to_source(self):
        """In place, also bring the note along and leave no stale library."""
        for ext in self.extensions:
            built = Path(self.build_lib, self.get_ext_filename(ext.name))
            for file in (built, built.with_suffix(".txt")):
                target = Path("src", file.relative_to(self.build_lib))
                target.unlink(missing_ok=True)
                if file.exists():
                    shutil.copyfile(file, target)

    def get_outputs(self):
        """The files that really came to be."""
        files = [Path(self.build_lib, self.get_ext_filename(ext.name)) for ext in self.extensions]
        return [str(f) for file in files for f in (file, file.with_suffix(".txt")) if f.exists()]


class Wheel(bdist_wheel):
    """A wheel for this platform and any Python 3."""

    def get_tag(self):
        """The platform as usual, no Python and no ABI in particular."""
        return "py3", "none", super().get_tag()[2]


def compile_kernels(library):
    """Compile and link; raises OSError without a compiler, CalledProcessError if it fails."""
    compiler = shlex.split(os.environ.get("CXX", "")) or [find_compiler()]
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    flags = [*FLAGS, "-DFBF_X86"] if x86 else FLAGS
    sets = X86 if x86 else {"plain": []}
    with tempfile.TemporaryDirectory() as folder:
        jobs = {
            Path(folder, f"{part}_{name}.o"): [
                *flags,
                *isa,
                f"-DFBF_ISA={name}",
                str(SOURCES / f"{part}.cpp"),
            ]
            for name, isa in sets.items()
            for part in ("chain", "channels_last")
        }
        for name in ("threads", "dispatch"):
            jobs[Path(folder, f"{name}.o")] = [*flags, str(SOURCES / f"{name}.cpp")]

        def compile_one(job):
            target, arguments = job
            run([*compiler, *arguments, "-c", "-o", str(target)])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, jobs.items()))
        # On Windows the compiler's own libraries would be missing at run time.
        extra = ["-static"] if sys.platform == "win32" else ["-pthread"]
        run([*compiler, "-shared", *extra, "-o", str(library), *map(str, jobs)])


def find_compiler():
    """The first of the usual names that is on the path."""
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return name
    raise FileNotFoundError("no C++ compiler (c++, g++, clang++) was found at install")


def run(command):
    """Run a compiler, keeping what it says for the note."""
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)


KERNELS = Extension(
    "fivebyfive.kernels._blocks",
    sources=sorted(map(str, SOURCES.glob("*.cpp"))),
    depends=sorted(map(str, SOURCES.glob("*.h"))),
)
setup(
    ext_modules=[KERNELS],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
)
