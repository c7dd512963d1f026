"""Operations on large images with many channels, each laid out with its channels last."""

from .batch_norm import Normalisation
from .convolution import Convolution
from .finding import Operation, find, follows
from .layout import settled
from .max_pool import MaxPool
from .workspace import Workspaces

__all__ = [
    "Convolution",
    "MaxPool",
    "Normalisation",
    "Operation",
    "Workspaces",
    "find",
    "follows",
    "settled",
]
