"""Fashion-MNIST as the book's loops want it: batches of images, made from whole splits of bytes.

The book's loader opens, converts and resizes one image at a time. Here a split lies in memory as
bytes and a whole batch is gathered and converted at once, which gives the same pixels in the same
order and takes a small part of the time.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from .. import datasets
from ..datasets.catalog import FASHION_MNIST
from ..datasets.pixels import Pixels
from ..datasets.splits import Split
from ..engines.allocator import keep_large_buffers
from ..lib.errors import RecipeError


def load_data_fashion_mnist(batch_size: int, resize: int | None = None) -> tuple[Batches, Batches]:
    """Fashion-MNIST's training batches, shuffled anew at each pass, and its test batches, in order.

    Where the dataset isn't available, the small sample that ships with this package takes its
    place, and a notice on stderr says so once.

    Args:
        batch_size: images a batch; the last one may be smaller.
        resize: side of the images in pixels, resized as PIL's bilinear filter does; 28 if left out.

    Raises:
        RecipeError: ``batch_size`` or ``resize`` isn't a whole number of at least 1.
    """
    _check_count("batch_size", batch_size)
    if resize is not None:
        _check_count("resize", resize)
    # Here too, for loops of the reader's own.
    keep_large_buffers()
    data = datasets.load("fashion-mnist", named=False)
    if data.notice:
        _tell_once(data.notice)
    pixels = Pixels(resize)
    return (
        Batches(data.train, batch_size, pixels, shuffle=True),
        Batches(data.test, batch_size, pixels, shuffle=False),
    )


class Loader(Protocol):
    """Batches (X, y), gone through anew at each epoch, whose number is known beforehand."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...


class Images:
    """A split seen image by image, as a ``DataLoader``'s dataset is."""

    def __init__(self, split: Split, pixels: Pixels) -> None:
        self.split, self.pixels = split, pixels

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image, ``float32 [C, h, w]`` in 0..1, and its class."""
        return self.pixels(self.split.images[index][None])[0], int(self.split.labels[index])


class Batches:
    """Batches ``(X float32 [B, C, h, w] in 0..1, y int64 [B])``; can be gone through many times.

    The order, and what is drawn from PyTorch's global random state, are those of a ``DataLoader``:
    after the same ``torch.manual_seed`` both give the same batches.
    """

    def __init__(self, split: Split, batch_size: int, pixels: Pixels, shuffle: bool) -> None:
        self.dataset = Images(split, pixels)
        self.batch_size = batch_size
        self._shuffle = shuffle

    def __len__(self) -> int:
        return math.ceil(len(self.dataset) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        split, pixels = self.dataset.split, self.dataset.pixels
        for indices in self._order().to(split.labels.device).split(self.batch_size):
            yield pixels(split.images[indices]), split.labels[indices]

    def on(self, device: torch.device | str) -> Batches:
        """The same batches, made on ``device``, where the split's bytes are put once."""
        split = self.dataset.split.to(torch.device(device))
        return Batches(split, self.batch_size, self.dataset.pixels, self._shuffle)

    def _order(self) -> Tensor:
        # A DataLoader draws one number for its workers, then one for its shuffling.
        _draw_seed()
        if not self._shuffle:
            return torch.arange(len(self.dataset))
        generator = torch.Generator().manual_seed(_draw_seed())
        return torch.randperm(len(self.dataset), generator=generator)


def near(
    batches: Iterable[tuple[Any, Tensor]], device: torch.device | str | None
) -> Iterable[tuple[Any, Tensor]]:
    """The same batches on ``device`` (``None``: as they come).

    Our own are made there; any other iterable's are moved, X also when it is a list of tensors.
    """
    if device is None:
        return batches
    if isinstance(batches, Batches):
        return batches.on(device)
    return _Moved(batches, device)


class _Moved:
    """Any iterable of batches, each one moved to a device when its turn comes."""

    def __init__(self, batches: Iterable[tuple[Any, Tensor]], device: torch.device | str) -> None:
        self._batches, self._device = batches, device

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        for inputs, labels in self._batches:
            if isinstance(inputs, list):
                yield [part.to(self._device) for part in inputs], labels.to(self._device)
            else:
                yield inputs.to(self._device), labels.to(self._device)


def get_fashion_mnist_labels(labels: Iterable[Any]) -> list[str]:
    """The names of Fashion-MNIST's classes, given their numbers, as the book spells them."""
    return [FASHION_MNIST.classes[int(label)] for label in labels]


def load_array(
    data_arrays: Iterable[Tensor], batch_size: int, is_train: bool = True
) -> DataLoader[tuple[Tensor, ...]]:
    """A PyTorch ``DataLoader`` over tensors of equal length, shuffled if ``is_train``."""
    return DataLoader(TensorDataset(*data_arrays), batch_size, shuffle=is_train)


def _draw_seed() -> int:
    return int(torch.empty((), dtype=torch.int64).random_().item())


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RecipeError(f"{name} is {value!r}; expected a whole number of at least 1.")


@functools.cache
def _tell_once(notice: str) -> None:
    print(notice, file=sys.stderr)
