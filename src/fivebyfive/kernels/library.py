"""The compiled library: loading it, choosing an instruction set, and its C structures.

The structures mirror ``cpp/api.h``, which explains every field. The library is plain C and knows
nothing of Python or PyTorch; without it (no compiler at install) the package works on PyTorch.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_double,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_void_p,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

#: The version of ``api.h`` that this file mirrors.
ABI = 3
#: Names an instruction set (``avx512``, ``avx2``, ``plain``), or turns the kernels off (``none``).
VARIABLE = "FIVEBYFIVE_KERNELS"


class Layer(Structure):
    """A convolution or linear layer with what follows it."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        *((name, c_int32) for name in ("kind", "in_channels", "in_height", "in_width")),
        *((name, c_int32) for name in ("out_channels", "kernel", "padding", "activation")),
        *((name, c_int32) for name in ("pooling", "pool_kernel", "pool_stride")),
        *((name, c_void_p) for name in ("weight", "bias", "weight_grad", "bias_grad")),
    ]


class Chain(Structure):
    """Layers in the order they run."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [("layers", POINTER(Layer)), ("count", c_int32)]


class Images(Structure):
    """A batch: where the images are and which of them."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("images", c_void_p),
        ("table", c_void_p),
        ("order", c_void_p),
        ("count", c_int64),
    ]


class Loss(Structure):
    """Labels in; the sum of the losses, the number of right guesses, the gathering's time out."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("labels", c_void_p),
        ("sum", c_double),
        ("correct", c_int64),
        ("gather_seconds", c_double),
    ]


class Parameter(Structure):
    """One tensor to update."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        *((name, c_void_p) for name in ("value", "grad", "first_moment", "second_moment")),
        ("size", c_int64),
    ]


class Update(Structure):
    """How to update."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        *((name, c_double) for name in ("rate", "beta1", "beta2", "eps", "root")),
        ("adam", c_int32),
    ]


class Weights(Structure):
    """A convolution's weights or their gradients, laid out in any way."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("values", c_void_p),
        *((name, c_int64) for name in ("out", "in", "row", "column")),
    ]


class WideConvolution(Structure):
    """A convolution on images with their channels last."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        *((name, c_int32) for name in ("images", "height", "width", "in_channels")),
        *((name, c_int32) for name in ("out_channels", "kernel", "padding")),
        ("weights", Weights),
    ]


class BatchNorm(Structure):
    """A batch normalisation of images with their channels last."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("pixels", c_int64),
        *((name, c_int32) for name in ("channels", "relu")),
        *((name, c_double) for name in ("eps", "momentum")),
        *((name, c_void_p) for name in ("weight", "bias", "running_mean", "running_var")),
        *((name, c_void_p) for name in ("mean", "inverse")),
    ]


class MaxPool(Structure):
    """A max-pooling of images with their channels last."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        *((name, c_int32) for name in ("images", "height", "width", "channels")),
        *((name, c_int32) for name in ("kernel", "stride", "padding")),
        *((name, c_int32) for name in ("out_height", "out_width")),
    ]


# The parameters' types of the library's functions.
_CHAIN, _IMAGES, _LOSS = POINTER(Chain), POINTER(Images), POINTER(Loss)
_WORKSPACE = CFUNCTYPE(c_size_t, _CHAIN, c_int64, c_int, c_int)
_FORWARD = CFUNCTYPE(None, _CHAIN, _IMAGES, c_void_p, c_int, c_int, c_void_p)
_BACKWARD = CFUNCTYPE(None, _CHAIN, c_int64, c_void_p, c_int, c_void_p, c_void_p)
_STEP = CFUNCTYPE(None, _CHAIN, _IMAGES, c_void_p, c_int, _LOSS)
_UPDATE = CFUNCTYPE(None, POINTER(Parameter), c_int32, c_int, POINTER(Update))
_ACTIVATE = CFUNCTYPE(None, c_int32, c_void_p, c_int64)
_WIDE, _FLOATS = POINTER(WideConvolution), c_void_p
_WIDE_WORKSPACE = CFUNCTYPE(c_size_t, _WIDE, c_int, c_int)
_CONVOLUTION = CFUNCTYPE(None, _WIDE, _FLOATS, _FLOATS, _FLOATS, c_int, _FLOATS, _FLOATS, c_int)
_WEIGHT_GRAD = CFUNCTYPE(None, _WIDE, *5 * [_FLOATS], c_int)
_NORM = POINTER(BatchNorm)
_NORM_WORKSPACE = CFUNCTYPE(c_size_t, _NORM)
_BATCH_NORM = CFUNCTYPE(None, _NORM, *4 * [_FLOATS], c_int)
_BATCH_NORM_GRAD = CFUNCTYPE(None, _NORM, *8 * [_FLOATS], c_int)
_MAX_POOL = CFUNCTYPE(None, POINTER(MaxPool), *3 * [c_void_p], c_int)


class ChannelsLast(Structure):
    """The functions on images with their channels last."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("convolution_workspace", _WIDE_WORKSPACE),
        ("convolution", _CONVOLUTION),
        ("convolution_weight_grad", _WEIGHT_GRAD),
        ("batch_norm_workspace", _NORM_WORKSPACE),
        ("batch_norm", _BATCH_NORM),
        ("batch_norm_grad", _BATCH_NORM_GRAD),
        ("max_pool", _MAX_POOL),
        ("max_pool_grad", _MAX_POOL),
    ]


class Kernels(Structure):
    """The functions of one instruction set."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("name", c_char_p),
        ("lanes", c_int32),
        ("workspace", _WORKSPACE),
        ("forward", _FORWARD),
        ("backward", _BACKWARD),
        ("step", _STEP),
        ("evaluate", _STEP),
        ("update", _UPDATE),
        ("activate", _ACTIVATE),
        ("channels_last", POINTER(ChannelsLast)),
    ]


@dataclass(frozen=True)
class Report:
    """Which kernels are at work (``None``: PyTorch alone), which could be, and why."""

    active: str | None
    usable: tuple[str, ...]
    reason: str


@functools.cache
def usable() -> dict[str, Kernels]:
    """The instruction sets in the library that this processor runs, the fastest first.

    Raises:
        OSError: the library isn't there, can't be loaded, or is of another version.
    """
    library = _load(_path())
    _share_threads(library)
    library.fbf_kernels.restype = POINTER(Kernels)
    found: dict[str, Kernels] = {}
    while pointer := library.fbf_kernels(len(found)):
        found[pointer.contents.name.decode()] = pointer.contents
    return found


def _load(path: Path) -> ctypes.CDLL:
    """The library, once it is known to be of this version: another would read and write at random.

    Raises:
        OSError: it can't be loaded, or is of another version.
    """
    library = ctypes.CDLL(str(path))
    found = library.fbf_abi() if hasattr(library, "fbf_abi") else "none"
    if found != ABI:
        raise OSError(
            f"{path} is of another version (ABI {found}, expected {ABI}); build it again: "
            "pip install . or, in a working copy, python setup.py build_ext --inplace"
        )
    return library


def _share_threads(library: ctypes.CDLL) -> None:
    """Let the kernels run on PyTorch's threads, if its OpenMP can be found.

    They go by their names in GCC's OpenMP, which PyTorch is built with on Linux.
    """
    for path in sorted(Path(torch.__file__).parent.glob("lib/libtorch_cpu.*")):
        with contextlib.suppress(OSError, AttributeError):
            loaded = ctypes.CDLL(str(path))
            functions = (loaded.GOMP_parallel, loaded.omp_get_thread_num)
            library.fbf_use_openmp(*(ctypes.cast(each, c_void_p) for each in functions))


def kernels() -> Kernels | None:
    """The instruction set to use now: the fastest, or the one ``$FIVEBYFIVE_KERNELS`` names.

    ``None`` where there is none; :func:`report` says why.
    """
    active = report().active
    return None if active is None else usable()[active]


def report() -> Report:
    """What is active and why, in words for ``fivebyfive doctor``."""
    try:
        names = tuple(usable())
    except OSError as error:
        return Report(None, (), f"{error}; everything runs in PyTorch")
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "none":
        return Report(None, names, f"turned off by ${VARIABLE}")
    if wanted in names:
        return Report(wanted, names, f"chosen by ${VARIABLE}")
    best = f"the fastest that this processor runs of {', '.join(names)}"
    if wanted:
        best += f" (${VARIABLE}={wanted} names none of them)"
    return Report(names[0], names, best)


def _path() -> Path:
    folder = Path(__file__).parent
    for path in sorted(folder.glob("_blocks*")):
        if path.suffix in (".so", ".dylib", ".pyd", ".dll"):
            return path
    note = folder / "_blocks.txt"  # left by setup.py when compiling failed
    why = note.read_text(encoding="utf-8").strip() if note.exists() else "it was never built"
    raise OSError(f"the compiled kernels are missing: {why}")
