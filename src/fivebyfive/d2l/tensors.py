"""The book's short names for tensor functions.

The book's source calls these so that one text serves several frameworks; the printed PyTorch code
mostly has the framework's own names in their place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import (
    Tensor,
    abs,  # noqa: A004 (the book's name)
    arange,
    cos,
    cosh,
    exp,
    eye,
    float32,
    int32,
    linspace,
    log,
    matmul,
    meshgrid,
    normal,
    ones,
    rand,
    randn,
    sin,
    sinh,
    stack,
    tanh,
    tensor,
    zeros,
)
from torch import cat as concat

__all__ = [
    "abs",
    "arange",
    "argmax",
    "astype",
    "concat",
    "cos",
    "cosh",
    "exp",
    "eye",
    "float32",
    "int32",
    "linspace",
    "log",
    "matmul",
    "meshgrid",
    "normal",
    "numpy",
    "ones",
    "rand",
    "randn",
    "reduce_mean",
    "reduce_sum",
    "reshape",
    "sin",
    "sinh",
    "size",
    "stack",
    "tanh",
    "tensor",
    "to",
    "transpose",
    "zeros",
]


def numpy(x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """``x`` as a NumPy array, without its gradient."""
    return x.detach().numpy(*args, **kwargs)


def number(value: Any) -> float:
    """A number, or a tensor that holds one, as a ``float``, with or without a gradient."""
    return float(value.detach() if isinstance(value, Tensor) else value)


def size(x: Tensor) -> int:
    """How many numbers ``x`` holds."""
    return x.numel()


def reshape(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``x.reshape(...)``."""
    return x.reshape(*args, **kwargs)


def to(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``x.to(...)``: another device or type."""
    return x.to(*args, **kwargs)


def reduce_sum(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``x.sum(...)``."""
    return x.sum(*args, **kwargs)


def reduce_mean(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``x.mean(...)``."""
    return x.mean(*args, **kwargs)


def argmax(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``x.argmax(...)``."""
    return x.argmax(*args, **kwargs)


def astype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x`` with another element type."""
    return x.type(dtype)


def transpose(x: Tensor) -> Tensor:
    """A matrix with its rows as columns."""
    return x.t()
