"""Dropout drawn image by image, so that how a batch is split changes nothing.

PyTorch draws a whole input's dropout from one stream of random numbers: split the batch and every
image gets another mask. Here the mask is a pure function of the seed, the epoch, the image's index
in the dataset, which dropout of the forward it is, and the unit: a hash, in whole numbers that wrap
around alike on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, fx, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from ..lib.private_draws import FUNCTIONS, PrivateDraws, has_own_code
from ..lib.randomness import DROPOUT, derive
from ..lib.torch_internals import in_checkpoint

#: The dropouts that are drawn by image. Those with a number drop whole channels, of inputs that
#: have at least so many dimensions; smaller ones have no dimension for the images.
_DROPOUTS: dict[Callable[..., Any], int | None] = {
    F.dropout: None,
    torch.dropout: None,
    torch.feature_dropout: 2,
    F.dropout1d: 3,
    F.dropout2d: 3,
    F.dropout3d: 5,
}

#: Units to draw for at once: their 64-bit numbers are large beside the inputs themselves.
_AT_ONCE = 1 << 20

#: 2**64 divided by the golden ratio, as a signed number: steps that never come near each other.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64


#: Told where not all that a network draws can be made a function of the seed.
SHARED = (
    "this network draws random numbers from a generator that the whole process shares. Its result "
    "is the same each time only as long as nothing else draws from it meanwhile, another training "
    "in this process for instance; what it draws by Python's or NumPy's generators isn't seeded."
)


class DropoutByImage(TorchFunctionMode):
    """While it is on, dropout is drawn for ``images``: their indices in the dataset, ``int64 [N]``.

    Made anew for every forward, since it counts the dropouts in it. An input whose first dimension
    isn't these images, and dropout of other kinds (alpha dropout, that within attention), is left
    to PyTorch. So is dropout under :mod:`torch.utils.checkpoint`: when the backward computes that
    part of the forward again, it is the state of PyTorch's generator that gives the same mask. A
    step that is recorded once and done again in other epochs reads the epoch from the device:
    ``epoch`` is then what :func:`keys` gives, with a key for each dropout. Whatever else is drawn
    comes from ``draws``.

    Attributes:
        drew: whether anything was dropped.
    """

    def __init__(
        self, seed: int, epoch: int | Tensor, images: Tensor, draws: PrivateDraws | None = None
    ) -> None:
        super().__init__()
        self._seed, self._epoch, self._images, self._draws = seed, epoch, images, draws
        self._calls = 0
        self.drew = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DROPOUTS:
            result = self._drop(_DROPOUTS[func], *args, **kwargs)
            if result is not None:
                return result
        if func in FUNCTIONS and self._draws is not None:
            with self._draws:
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _drop(
        self,
        channels: int | None,
        input: Any,  # noqa: A002 (what PyTorch calls it)
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
        train: bool = True,
    ) -> Tensor | None:
        """The input with some units dropped; ``None`` where PyTorch should see to it."""
        # A trace, which may come in the midst of a training, counts no dropout.
        if isinstance(input, fx.Proxy) or not (training and train and 0 < p < 1) or in_checkpoint():
            return None
        call, self._calls = self._calls, self._calls + 1
        self.drew = True
        if not isinstance(input, Tensor) or input.dim() < (channels or 1):
            return None
        if len(input) != len(self._images):
            return None
        shape = input.shape[1:] if channels is None else input.shape[1:2]
        drop = dropped(self._key(call), self._images, shape.numel(), p)
        drop = drop.view(len(input), *shape, *[1] * (input.dim() - 1 - len(shape)))
        output = input if inplace else input.clone()  # which keeps its layout in memory
        return output.masked_fill_(drop, 0).mul_(1 / (1 - p))

    def _key(self, call: int) -> int | Tensor:
        if isinstance(self._epoch, Tensor):
            return self._epoch[call]
        return derive(self._seed, DROPOUT, self._epoch, call)


def keys(seed: int, epoch: int, count: int) -> Tensor:
    """The keys by which an epoch's forwards draw their first dropouts: ``int64 [count]``."""
    return torch.tensor([derive(seed, DROPOUT, epoch, call) for call in range(count)])


def dropped(key: int | Tensor, images: Tensor, units: int, p: float) -> Tensor:
    """Which of an image's ``units`` are dropped, each with probability ``p``: ``bool [N, units]``.

    ``images`` (``int64 [N]``) are numbers that stand for the images; other keys, below 2**63, give
    unrelated masks. A key may lie beside the images on their device (``int64 []``). As in
    SplitMix64 (Steele, Lea and Flood, 2014) an image's random numbers are the hashes of a sequence
    that begins somewhere and goes on in equal steps.
    """
    begins = _hashed(images + key)
    begins = begins.bitwise_xor_(begins >> 32).unsqueeze(1)
    steps = torch.arange(units, device=images.device).mul_(_GOLDEN)
    below = round(p * 2**64) - 2**63
    parts = begins.split(max(1, _AT_ONCE // max(1, units)))
    return torch.cat([_hashed(part + steps) < below for part in parts])


def _hashed(x: Tensor) -> Tensor:
    """A hash of 64-bit numbers, best in its upper bits; overwrites ``x``.

    Two rounds of what such hashes end with: fold the upper half onto the lower, then multiply. The
    multipliers are those of Vigna's xorshift64* and of Knuth's MMIX. (PyTorch's shift carries the
    sign along, which makes two numbers one; of 2**64 that does no harm.)
    """
    x.bitwise_xor_(x >> 32).mul_(0x2545F4914F6CDD1D)
    return x.bitwise_xor_(x >> 32).mul_(0x5851F42D4C957F2D)


def may_drop(network: nn.Module) -> bool:
    """Whether a forward of ``network`` may call dropout, so that it has to be watched.

    A network of PyTorch's and of this package's modules does so only in dropout layers; the code of
    any other module may do what it likes. Watching costs about a microsecond an operation.
    """
    return has_own_code(network) or any(isinstance(m, _DropoutNd) for m in network.modules())
