"""The ways people train these networks in PyTorch today, as strong as they come.

All train the same recipe on the same images; each function is run in a process of its own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from PIL import Image
from torch import Tensor, nn

import fivebyfive as fbf
from fivebyfive.cli import program
from fivebyfive.datasets.splits import Split
from fivebyfive.engines.allocator import keep_large_buffers
from fivebyfive.recipes import Recipe
from fivebyfive.training.weights import build_seeded
from harness import Contender, Training

Batches = Callable[[], Iterator[tuple[Tensor, Tensor]]]


class OneByOne(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Per image what torchvision's dataset does: a PIL image, resized, made a tensor, over 255."""

    def __init__(self, split: Split, recipe: Recipe) -> None:
        self.images, self.labels = split.images.squeeze(1), split.labels
        self.recipe = recipe

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index].numpy())
        if side := self.recipe.resize:
            image = image.resize((side, side), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image, np.uint8, copy=True)).unsqueeze(0)
        x = pixels.to(torch.float32).div(255)
        if self.recipe.std != 1:
            x = x.sub_(self.recipe.mean).div_(self.recipe.std)
        return x, int(self.labels[index])


def textbook(recipe: Recipe) -> dict[str, float]:
    """The book's loop over a DataLoader that opens image by image, with the book's four workers."""
    data = fbf.datasets.load(recipe.dataset)
    loaders = [
        torch.utils.data.DataLoader(
            OneByOne(split, recipe), recipe.batch_size, shuffle=shuffle, num_workers=4
        )
        for split, shuffle in ((data.train, True), (data.test, False))
    ]
    return _train(recipe, network(recipe), lambda: iter(loaders[0]), lambda: iter(loaders[1]))


def eager(recipe: Recipe) -> dict[str, float]:
    """Strong eager: float images resident, batches gathered, large buffers kept."""
    return _resident(recipe, network(recipe))


def channels_last(recipe: Recipe) -> dict[str, float]:
    """Strong eager with the weights and images laid out channels last."""
    net = network(recipe).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _resident(recipe, net, torch.channels_last)


def compiled(recipe: Recipe) -> dict[str, float]:
    """Channels last and ``torch.compile``; its compiling counts in the cold and warm times."""
    net = network(recipe).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _resident(recipe, torch.compile(net), torch.channels_last)


def ours(recipe: Recipe, engine: str = "auto") -> dict[str, float]:
    """``fivebyfive train``, everything included: run folder, log, weights and curves."""
    times = Training()
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", recipe.name, "--epochs", str(recipe.epochs), "--data", recipe.dataset]
        words += ["--device", "cpu", "--engine", engine, "--run", f"{folder}/run", "--quiet"]
        assert program(words) == 0
        for row in fbf.load_run(f"{folder}/run").metrics():
            if row["event"] == "epoch":
                times.train_seconds.append(row["train_seconds"])
                times.test_seconds.append(row["test_seconds"])
                times.train_loss, times.test_acc = row["train_loss"], row["test_acc"]
    return times.report(60_000, 10_000)


def ours_eager(recipe: Recipe) -> dict[str, float]:
    """``fivebyfive train`` with the plain PyTorch engine."""
    return ours(recipe, "eager")


CONTENDERS: dict[str, Contender] = {
    "textbook": textbook,
    "eager": eager,
    "channels_last": channels_last,
    "compiled": compiled,
    "ours-eager": ours_eager,
    "ours": ours,
}


def network(recipe: Recipe) -> nn.Module:
    """The recipe's network as everyone would write it: the ConvNet with ``flatten`` for ``view``.

    ``view`` doesn't go with channels last.
    """
    net = build_seeded(
        lambda: fbf.networks.build(recipe.network), recipe.init, recipe.seed, torch.empty(0)
    )
    if recipe.network == "convnet":
        net.forward = lambda x: _convnet(net, x)  # type: ignore[method-assign]
    return net


def _convnet(net: Any, x: Tensor) -> Tensor:
    x = F.max_pool2d(F.relu(net.conv1(x)), 2, 2)
    x = F.relu(net.conv2(x)).flatten(1)
    return F.log_softmax(net.fc2(F.relu(net.fc1(x))), dim=1)


def _resident(
    recipe: Recipe, net: nn.Module, layout: torch.memory_format = torch.contiguous_format
) -> dict[str, float]:
    keep_large_buffers()
    data = fbf.datasets.load(recipe.dataset)

    def floats(images: Tensor) -> Tensor:
        x = images.float().div_(255)
        return x.sub_(recipe.mean).div_(recipe.std).contiguous(memory_format=layout)

    train, test = floats(data.train.images), floats(data.test.images)

    def shuffled() -> Iterator[tuple[Tensor, Tensor]]:
        for indices in torch.randperm(len(train)).split(recipe.batch_size):
            yield train[indices], data.train.labels[indices]

    def whole() -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(
            test.split(recipe.batch_size), data.test.labels.split(recipe.batch_size), strict=True
        )

    return _train(recipe, net, shuffled, whole)


def _train(recipe: Recipe, net: nn.Module, train: Batches, test: Batches) -> dict[str, float]:
    kinds: dict[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    optimizer = kinds[recipe.optimizer](net.parameters(), lr=recipe.lr)
    loss_of = {"cross-entropy": F.cross_entropy, "nll": F.nll_loss}[recipe.loss]
    times = Training()
    for _ in range(recipe.epochs):
        begin, losses = time.perf_counter(), 0.0
        net.train()
        for x, y in train():
            optimizer.zero_grad()
            scores = net(x)
            loss = loss_of(scores, y)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                losses += float(loss) * len(y)
                int((scores.argmax(1) == y).sum())
        times.train_seconds.append(time.perf_counter() - begin)
        begin, correct = time.perf_counter(), 0
        net.eval()
        with torch.no_grad():
            for x, y in test():
                correct += int((net(x).argmax(1) == y).sum())
        times.test_seconds.append(time.perf_counter() - begin)
        times.train_loss, times.test_acc = losses / 60_000, correct / 10_000
    return times.report(60_000, 10_000)
