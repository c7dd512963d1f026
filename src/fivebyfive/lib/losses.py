"""The losses that a recipe may name."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor

#: From scores ``[N, K]`` (``nll``: log-probabilities) and labels ``int64 [N]``.
LOSSES: dict[str, Callable[..., Tensor]] = {"cross-entropy": F.cross_entropy, "nll": F.nll_loss}
