"""How well a trained network does on images it hasn't seen, overall, by class and by confusion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console, ConsoleOptions, RenderResult
from torch import Tensor, nn

from ..datasets.splits import Split
from ..lib.errors import DataError, ShapeError
from ..lib.losses import LOSSES
from ..lib.modes import in_mode
from ..lib.text import plain
from ..recipes import Loss
from ..summary.trace import trace
from . import report as verdict_table


@dataclass(frozen=True)
class Mistake:
    """One image told wrong: its place in the split, what it is, what was said, how surely (0–1)."""

    index: int
    label: int
    prediction: int
    confidence: float


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What a test came to. Accuracies are shares, 0 to 1.

    ``confusion[true][said]`` counts images; ``mistakes`` holds every wrong one, the most confident
    first. Print it, to a ``rich`` console or plainly, for tables.
    """

    loss: float
    correct: int
    images: int
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    mistakes: tuple[Mistake, ...]

    @property
    def accuracy(self) -> float:
        """The share of the images told right."""
        return self.correct / self.images

    @property
    def accuracies(self) -> tuple[float | None, ...]:
        """The accuracy of each class; None for one without images."""
        return tuple(
            row[label] / sum(row) if any(row) else None for label, row in enumerate(self.confusion)
        )

    def line(self) -> str:
        """The line that the MNIST ConvNet's tutorial prints."""
        share = f"{self.correct}/{self.images} ({100 * self.accuracy:.0f}%)"
        return f"Test set: Average loss: {self.loss:.4f}, Accuracy: {share}"

    def confusions(self, count: int) -> list[tuple[int, str, str]]:
        """The pairs most often confused: how many images, what they are, what they pass for."""
        pairs = [
            (times, self.classes[true], self.classes[said])
            for true, row in enumerate(self.confusion)
            for said, times in enumerate(row)
            if times and true != said
        ]
        return sorted(pairs, key=lambda pair: -pair[0])[:count]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; a loss that is no finite number is None."""
        return {
            "test_loss": self.loss if math.isfinite(self.loss) else None,
            "test_acc": self.accuracy,
            "correct": self.correct,
            "images": self.images,
            "classes": list(self.classes),
            "class_acc": list(self.accuracies),
            "confusion": [list(row) for row in self.confusion],
            "mistakes": [vars(mistake) for mistake in self.mistakes],
        }

    def __repr__(self) -> str:
        return plain(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return verdict_table.render(self, options.max_width)


def evaluate(
    network: nn.Module,
    split: Split,
    pixels: Callable[[Tensor], Tensor],
    loss: Loss = "cross-entropy",
    classes: Sequence[str] = (),
    device: torch.device | str = "cpu",
    batch_size: int = 500,
) -> Evaluation:
    """Test ``network`` on all of ``split``, without gradients and in evaluation mode.

    ``pixels`` turns ``uint8 [N, C, H, W]`` into what the network takes. The network is moved to
    ``device`` and has its mode back afterwards. Without ``classes`` they are called by their
    numbers. The loss is the mean over all images, summed in float64.

    Raises:
        ShapeError: the network doesn't take these images, or doesn't give ``[N, K]`` scores for
            at least as many classes as there are.
        DataError: there are no images to test on.
    """
    if not len(split):
        raise DataError("there are no images to test on; expected at least one.")
    scores = _scores(network.to(device), split, pixels, torch.device(device), batch_size)
    labels = split.labels.cpu()
    known = len(classes) or int(labels.max()) + 1
    if scores.dim() != 2 or scores.shape[1] < known:
        raise ShapeError(
            f"the network gives {list(scores.shape)} for {len(split)} images; expected a score for "
            f"each of {known} classes. Build it with classes={known}."
        )
    count = scores.shape[1]
    # Softmax leaves log-probabilities as the probabilities they are, so it serves both losses.
    confidences, predictions = scores.softmax(1).max(1)
    losses = LOSSES[loss](scores, labels, reduction="none").double()
    confusion = torch.bincount(labels * count + predictions, minlength=count * count)
    names = tuple(classes) + tuple(str(label) for label in range(len(classes), count))
    return Evaluation(
        loss=losses.sum().item() / len(split),
        correct=int((predictions == labels).sum()),
        images=len(split),
        classes=names,
        confusion=tuple(tuple(row) for row in confusion.view(count, count).tolist()),
        mistakes=_mistakes(labels, predictions, confidences),
    )


@torch.no_grad()
def _scores(
    network: nn.Module,
    split: Split,
    pixels: Callable[[Tensor], Tensor],
    device: torch.device,
    batch_size: int,
) -> Tensor:
    """All scores ``float32 [N, K]``, on the CPU."""
    scores = []
    with in_mode(network, training=False):
        for begin in range(0, len(split), batch_size):
            batch = pixels(split.images[begin : begin + batch_size].to(device))
            try:
                scores.append(network(batch).float().cpu())
            except (RuntimeError, ValueError):
                channels, height, width = batch.shape[1:]
                trace(network, (channels, height, width))  # tells it better if it is the shape
                raise
    return torch.cat(scores)


def _mistakes(labels: Tensor, predictions: Tensor, confidences: Tensor) -> tuple[Mistake, ...]:
    wrong = (predictions != labels).nonzero().squeeze(1)
    wrong = wrong[confidences[wrong].argsort(descending=True, stable=True)]
    columns = (wrong, labels[wrong], predictions[wrong], confidences[wrong])
    return tuple(
        Mistake(*row) for row in zip(*(column.tolist() for column in columns), strict=True)
    )
