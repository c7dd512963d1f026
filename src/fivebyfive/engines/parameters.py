"""A network's parameters as they were when its training began, which its optimizer counts on."""

from __future__ import annotations

from torch import nn

from ..lib.errors import NetworkError


class Parameters:
    """Which ones there were, and of which type and where."""

    def __init__(self, network: nn.Module) -> None:
        self._began = {p: (p.dtype, p.device) for p in network.parameters()}

    def check(self, network: nn.Module) -> None:
        """Check that what was done to the network meanwhile is something an optimizer follows.

        Raises:
            NetworkError: it was converted, or has parameters that weren't there.
        """
        for name, parameter in network.named_parameters():
            began, now = self._began.get(parameter), (parameter.dtype, parameter.device)
            if began is None and parameter.requires_grad:
                raise NetworkError(
                    f"{name} is another parameter than when the training began, and its optimizer "
                    "doesn't know it. Replace layers before a training, or between two."
                )
            if began is not None and now != began:
                kinds = [f"{dtype} on {device}" for dtype, device in (now, began)]
                raise NetworkError(
                    f"{name} is {kinds[0]}, and was {kinds[1]} when the training began. Convert a "
                    "network before a training, or between two."
                )
