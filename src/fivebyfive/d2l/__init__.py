"""The helper names of *Dive into Deep Learning*, for the code of its CNN chapters.

With ``from fivebyfive import d2l`` in place of the book's own import, the code of its chapters on
convolutional networks (PyTorch, edition 2 in Chinese, release 0.17 in English) runs as printed, in
a script or a notebook. Names, signatures and printed lines are the book's; the code is this
project's. See docs/d2l.md and https://d2l.ai.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .animator import Animator
from .data import get_fashion_mnist_labels, load_array, load_data_fashion_mnist
from .devices import try_all_gpus, try_gpu
from .layers import Residual, corr2d
from .measures import Accumulator, Timer, accuracy, evaluate_accuracy, evaluate_accuracy_gpu
from .plotting import plot, set_axes, set_figsize, show_images, use_svg_display
from .tensors import (
    abs,  # noqa: A004 (the book's name)
    arange,
    argmax,
    astype,
    concat,
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
    numpy,
    ones,
    rand,
    randn,
    reduce_mean,
    reduce_sum,
    reshape,
    sin,
    sinh,
    size,
    stack,
    tanh,
    tensor,
    to,
    transpose,
    zeros,
)
from .training import predict_ch3, sgd, train_ch3, train_ch6, train_epoch_ch3

if TYPE_CHECKING:
    from matplotlib import pyplot as plt

__all__ = [
    "Accumulator",
    "Animator",
    "Residual",
    "Timer",
    "abs",
    "accuracy",
    "arange",
    "argmax",
    "astype",
    "concat",
    "corr2d",
    "cos",
    "cosh",
    "evaluate_accuracy",
    "evaluate_accuracy_gpu",
    "exp",
    "eye",
    "float32",
    "get_fashion_mnist_labels",
    "int32",
    "linspace",
    "load_array",
    "load_data_fashion_mnist",
    "log",
    "matmul",
    "meshgrid",
    "normal",
    "numpy",
    "ones",
    "plot",
    "plt",
    "predict_ch3",
    "rand",
    "randn",
    "reduce_mean",
    "reduce_sum",
    "reshape",
    "set_axes",
    "set_figsize",
    "sgd",
    "show_images",
    "sin",
    "sinh",
    "size",
    "stack",
    "tanh",
    "tensor",
    "to",
    "train_ch3",
    "train_ch6",
    "train_epoch_ch3",
    "transpose",
    "try_all_gpus",
    "try_gpu",
    "use_svg_display",
    "zeros",
]


def __getattr__(name: str) -> Any:
    # pyplot picks a window system when it is first used, so nobody pays for it who doesn't plot.
    if name == "plt":
        from .plotting import pyplot

        return pyplot()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
