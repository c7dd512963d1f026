"""The book's training loops: chapter 6's for convolutional networks, chapter 3's for plain ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..engines.allocator import keep_large_buffers
from ..engines.stopwatch import Stopwatch
from ..engines.sums import add, read
from ..lib.errors import DataError, RecipeError
from ..training.weights import initialise
from .animator import Animator
from .data import Loader, get_fashion_mnist_labels, near
from .measures import Accumulator, Net, accuracy, evaluate_accuracy, evaluate_accuracy_gpu
from .plotting import show_images

#: An optimizer, or the book's own: a function of the batch size that changes the parameters.
Updater = torch.optim.Optimizer | Callable[[int], Any]
Loss = Callable[[Tensor, Tensor], Tensor]
CURVES = ("train loss", "train acc", "test acc")


def train_ch6(
    net: nn.Module,
    train_iter: Loader,
    test_iter: Iterable[tuple[Tensor, Tensor]],
    num_epochs: int,
    lr: float,
    device: torch.device | str,
) -> None:
    """Train by SGD on cross entropy from Xavier's weights; draw and print what the book does.

    The examples/sec it prints leave out loading and testing, as the book's do.

    Args:
        net: takes ``[B, C, h, w]`` and gives scores ``[B, classes]``; its weights are drawn anew.
        train_iter: batches (X, y), with a length: from :func:`load_data_fashion_mnist`, or any
            other iterable, such as your own ``DataLoader``.
        test_iter: batches to test on after each epoch.
        num_epochs: passes over ``train_iter``.
        lr: learning rate.
        device: where to train, e.g. ``d2l.try_gpu()``.

    Raises:
        RecipeError: ``num_epochs`` or ``lr`` can't be trained with.
        DataError: an iterator gave no batch.
    """
    _check(num_epochs, lr)
    num_batches = len(train_iter)
    if num_batches == 0:
        raise DataError("train_iter has no batches; expected at least one.")
    place = torch.device(device)
    if place.type == "cpu":
        keep_large_buffers()
    initialise(net, "xavier")
    print("training on", device)
    net.to(place)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    loss = nn.CrossEntropyLoss()
    animator = Animator(xlabel="epoch", xlim=[1, num_epochs], legend=CURVES)
    train_near, test_near = near(train_iter, place), near(test_iter, place)
    # Five points of the curves an epoch, or one a batch where there are fewer.
    every = max(1, num_batches // 5)
    watch, seconds = Stopwatch(place), 0.0
    for epoch in range(num_epochs):
        sums, count = torch.zeros(2, dtype=_exact(place), device=place), 0
        net.train()
        for done, (X, y) in enumerate(train_near, start=1):  # noqa: N806 (the book's name)
            watch.compute()
            optimizer.zero_grad()
            y_hat = net(X)
            batch_loss = loss(y_hat, y)
            batch_loss.backward()
            optimizer.step()
            add(sums, y_hat.detach(), y, batch_loss.detach() * len(X))
            watch.stop()
            count += len(X)
            if done % every == 0 or done == num_batches:
                # Only here does a GPU's work have to be waited for.
                tally = read(sums, count)
                seconds += watch.read().compute
                animator.add(epoch + done / num_batches, (tally.mean_loss, tally.accuracy, None))
        test_acc = evaluate_accuracy_gpu(net, test_near, place)
        animator.add(epoch + 1, (None, None, test_acc))
    print(f"loss {tally.mean_loss:.3f}, train acc {tally.accuracy:.3f}, test acc {test_acc:.3f}")
    print(f"{tally.count * num_epochs / seconds:.1f} examples/sec on {device}")


def train_epoch_ch3(
    net: Net, train_iter: Iterable[tuple[Tensor, Tensor]], loss: Loss, updater: Updater
) -> tuple[float, float]:
    """Train for one epoch, on the CPU or wherever the batches are.

    Args:
        net: a module, or a function from images to scores.
        train_iter: batches (X, y).
        loss: gives one number an image, as ``nn.CrossEntropyLoss(reduction="none")`` does.
        updater: a PyTorch optimizer, which follows the mean of the losses, or a function of the
            batch size, such as one around :func:`sgd`, which follows their sum.

    Returns:
        The mean training loss and the share of right answers.

    Raises:
        DataError: ``train_iter`` gave no batch.
    """
    if isinstance(net, nn.Module):
        net.train()
    metric = Accumulator(3)
    for X, y in train_iter:  # noqa: N806 (the book's name)
        y_hat = net(X)
        losses = loss(y_hat, y)
        if isinstance(updater, torch.optim.Optimizer):
            updater.zero_grad()
            losses.mean().backward()
            updater.step()
        else:
            losses.sum().backward()
            updater(X.shape[0])
        metric.add(losses.detach().sum(), accuracy(y_hat, y), y.numel())
    if not metric[2]:
        raise DataError("train_iter gave no batch; expected at least one.")
    return metric[0] / metric[2], metric[1] / metric[2]


def train_ch3(
    net: Net,
    train_iter: Iterable[tuple[Tensor, Tensor]],
    test_iter: Iterable[tuple[Tensor, Tensor]],
    loss: Loss,
    num_epochs: int,
    updater: Updater,
) -> None:
    """Train for ``num_epochs`` with :func:`train_epoch_ch3`, testing and drawing after each.

    The book's function also asserts that the result is good; this one lets a bad result be seen.
    """
    animator = Animator(xlabel="epoch", xlim=[1, num_epochs], ylim=[0.3, 0.9], legend=CURVES)
    for epoch in range(num_epochs):
        trained = train_epoch_ch3(net, train_iter, loss, updater)
        animator.add(epoch + 1, (*trained, evaluate_accuracy(net, test_iter)))


def predict_ch3(net: Net, test_iter: Iterable[tuple[Tensor, Tensor]], n: int = 6) -> None:
    """Show the first ``n`` images of the first batch with their true and predicted classes."""
    images, labels = next(iter(test_iter))
    with torch.no_grad():
        predicted = net(images).argmax(1)
    names = zip(
        get_fashion_mnist_labels(labels[:n]), get_fashion_mnist_labels(predicted[:n]), strict=True
    )
    titles = [f"{true}\n{guess}" for true, guess in names]
    show_images(images[:n].squeeze(1), 1, n, titles=titles)


@torch.no_grad()
def sgd(params: Iterable[Tensor], lr: float, batch_size: int) -> None:
    """One step of minibatch stochastic gradient descent in place; the gradients become zero.

    The gradients are those of a sum over the batch: they are divided by ``batch_size``.
    """
    for param in params:
        if param.grad is not None:
            param.sub_(lr * param.grad / batch_size)
            param.grad.zero_()


def _check(num_epochs: int, lr: float) -> None:
    if num_epochs < 1:
        raise RecipeError(f"num_epochs is {num_epochs!r}; expected a whole number of at least 1.")
    if not (math.isfinite(lr) and lr > 0):
        raise RecipeError(f"lr is {lr!r}; expected a finite number above 0.")


def _exact(device: torch.device) -> torch.dtype:
    # Apple's devices have no float64.
    return torch.float32 if device.type == "mps" else torch.float64
