"""The two pieces of networks that later chapters take from earlier ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn

from ..lib.errors import ShapeError


def corr2d(X: Tensor, K: Tensor) -> Tensor:  # noqa: N803 (the book's names)
    """Two-dimensional cross-correlation of a matrix with a kernel, without padding, stride 1.

    Args:
        X: ``[H, W]``.
        K: ``[h, w]``, no larger than ``X``.

    Returns:
        ``[H - h + 1, W - w + 1]`` in PyTorch's default type, whatever went in, as in the book.

    Raises:
        ShapeError: one of them isn't a matrix, or the kernel is larger.
    """
    if X.dim() != 2 or K.dim() != 2 or any(k > x for k, x in zip(K.shape, X.shape, strict=True)):
        raise ShapeError(
            f"corr2d got X of shape {list(X.shape)} and K of shape {list(K.shape)}; expected two "
            "matrices, K no larger than X. Go through the channels of larger tensors in a loop."
        )
    windows = X.unfold(0, K.shape[0], 1).unfold(1, K.shape[1], 1)
    return (windows * K).sum(dim=(-2, -1)).to(torch.get_default_dtype())


class Residual(nn.Module):
    """ResNet's block: two 3×3 convolutions whose result is added to their input.

    ``[N, input_channels, H, W]`` becomes ``[N, num_channels, ⌈H / strides⌉, ⌈W / strides⌉]``. Where
    the two differ, ``use_1x1conv`` brings the input to the output's shape. He, Zhang, Ren and Sun,
    2016, https://arxiv.org/abs/1512.03385.
    """

    def __init__(
        self, input_channels: int, num_channels: int, use_1x1conv: bool = False, strides: int = 1
    ) -> None:
        super().__init__()
        # Made in the book's order, so that the same seed gives the same weights.
        self.conv1 = nn.Conv2d(input_channels, num_channels, 3, padding=1, stride=strides)
        self.conv2 = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.conv3 = (
            nn.Conv2d(input_channels, num_channels, 1, stride=strides) if use_1x1conv else None
        )
        self.bn1 = nn.BatchNorm2d(num_channels)
        self.bn2 = nn.BatchNorm2d(num_channels)

    def forward(self, X: Tensor) -> Tensor:  # noqa: N803 (the book's name)
        """Compute the block's output."""
        inner: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(X)))))
        shortcut: Tensor = X if self.conv3 is None else self.conv3(X)
        return F.relu(inner + shortcut)
