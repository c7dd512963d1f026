"""Random numbers from generators of one's own, whatever code draws them.

PyTorch's layers and functions draw from generators that the whole process shares. Two trainings in
threads of one process would then disturb each other. :class:`PrivateDraws` hands every drawing
operation of the thread that uses it another generator, with the numbers that the shared one would
have given for the same seed.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn

from .dispatch_mode import DispatchMode
from .torch_internals import hooked, in_checkpoint

aten = torch.ops.aten
_SEEDED = torch.Tag.nondeterministic_seeded


class Source(Enum):
    """Where the random numbers of a network's ``forward`` come from, dropout by image aside."""

    NONE = "it draws none"
    PRIVATE = "generators of the training's own"
    PROCESS = "generators that the process shares"


class PrivateDraws(DispatchMode):
    """While it is on, what PyTorch draws in this thread is a function of ``seed`` alone.

    A few operations can't be given a generator (cuDNN's dropout among them), and what is drawn
    under :mod:`torch.utils.checkpoint` has to come from the process's, since that is what the
    backward winds back; these draw as without it.

    Attributes:
        drew: whether anything was drawn.
        shared: the names of the operations that drew from the process's generators.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}
        self.drew = False
        self.shared: set[str] = set()

    def __enter__(self) -> PrivateDraws:
        _count(+1)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        _count(-1)

    def see(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Do the operation."""
        if _SEEDED not in func.tags:
            return func(*args, **kwargs)
        return self._draw(func, args, kwargs)

    def _draw(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        device = _device_of(args, kwargs)
        names = [argument.name for argument in func._schema.arguments]
        place = names.index("generator") if "generator" in names else len(args)
        given = kwargs.get("generator", args[place] if place < len(args) else None)
        if device.type == "meta" or given is not None:
            return func(*args, **kwargs)  # nothing is drawn, or from the caller's own generator
        if in_checkpoint() or not ("generator" in names or func in _WITH_GENERATOR):
            return self._share(func, args, kwargs)
        self.drew = True
        generator = self._generator(device)
        if func in _WITH_GENERATOR:
            return _WITH_GENERATOR[func](*args, **kwargs, generator=generator)
        if place < len(args):
            return func(*args[:place], generator, *args[place + 1 :], **kwargs)
        return func(*args, **{**kwargs, "generator": generator})

    def _share(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if _drops(func, args, kwargs):
            self.drew = True
            self.shared.add(func._schema.name)
        return func(*args, **kwargs)

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]


def active() -> int:
    """How many :class:`PrivateDraws` are on in this thread."""
    return getattr(_THREAD, "active", 0)


class OtherGenerators:
    """Whether ``network`` drew from Python's or NumPy's generators, which nothing here replaces.

    They show only that somebody drew, maybe another thread. So a network isn't asked that can't
    have: one without code or hooks of the user's.
    """

    def __init__(self, network: nn.Module) -> None:
        asked = has_own_code(network) or any(map(hooked, network.modules()))
        self._before = (random.getstate(), np.random.get_state()) if asked else None

    def moved(self) -> bool:
        """Whether any has moved since this was made."""
        if self._before is None:
            return False
        (_, now, _), (_, numbers, *place) = random.getstate(), np.random.get_state()
        (_, before, _), (_, numbers_before, *place_before) = self._before
        same = now == before and place == place_before and np.array_equal(numbers, numbers_before)
        return not same

    def put_back(self) -> None:
        """Let both go on from where they were."""
        if self._before is not None:
            random.setstate(self._before[0])
            np.random.set_state(self._before[1])


def has_own_code(network: nn.Module) -> bool:
    """Whether a module is neither PyTorch's nor this package's, so that it may do what it likes."""
    known = "torch.nn.modules.", "fivebyfive.networks."
    return any(not type(module).__module__.startswith(known) for module in network.modules())


_THREAD = threading.local()


def _count(more: int) -> None:
    _THREAD.active = active() + more


def _device_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.device:
    """Where an operation draws: on its first tensor's device, or on the one it names."""
    if (named := kwargs.get("device")) is not None:
        return torch.device(named)
    return next((a.device for a in args if isinstance(a, Tensor)), torch.device("cpu"))


def _drops(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operation that may draw does: attention and recurrent layers only for dropout."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.name in ("dropout", "dropout_p"):
            given = args[place] if place < len(args) else argument.default_value
            return bool(kwargs.get(argument.name, given) != 0.0)
    return True


def _like(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``rand_like`` and the like, whose overloads with a generator not every version has."""

    def drawn(like: Tensor, *range_: Any, generator: torch.Generator, **options: Any) -> Tensor:
        return draw(torch.empty_like(like, **options), *range_, generator=generator)

    return drawn


#: The operations without a ``generator`` argument, and what draws the same numbers with one.
_WITH_GENERATOR: dict[Any, Callable[..., Tensor]] = {
    aten.rand.default: aten.rand.generator,
    aten.randn.default: aten.randn.generator,
    aten.randint.default: aten.randint.generator,
    aten.randint.low: aten.randint.low_generator,
    aten.randperm.default: aten.randperm.generator,
    aten.rand_like.default: _like(Tensor.uniform_),
    aten.randn_like.default: _like(Tensor.normal_),
    aten.randint_like.default: _like(lambda x, high, **g: x.random_(0, high, **g)),
    aten.randint_like.low_dtype: _like(Tensor.random_),
}

#: PyTorch's functions that draw, as code calls them; a network may use any of them only now and
#: then. What draws within others (attention, recurrent layers) is found by trying the network out.
FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    {
        *(torch.rand, torch.randn, torch.randint, torch.randperm),
        *(torch.rand_like, torch.randn_like, torch.randint_like),
        *(torch.bernoulli, torch.multinomial, torch.normal, torch.poisson),
        *(Tensor.bernoulli, Tensor.multinomial),
        *(Tensor.uniform_, Tensor.normal_, Tensor.bernoulli_, Tensor.random_),
        *(Tensor.exponential_, Tensor.geometric_, Tensor.cauchy_, Tensor.log_normal_),
        *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, torch.dropout, torch.feature_dropout),
        *(F.alpha_dropout, F.feature_alpha_dropout, torch.alpha_dropout, torch.dropout_),
        *(F.rrelu, F.gumbel_softmax, F.scaled_dot_product_attention),
    }
)
