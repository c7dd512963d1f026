"""A training's events without a training: what the listeners are shown in these tests."""

import math
from collections.abc import Iterator
from pathlib import Path

from fivebyfive import recipes
from fivebyfive.training.events import (
    ChunkDone,
    EpochDone,
    Event,
    Finished,
    Noticed,
    Result,
    Speed,
    Started,
)

SPEED = Speed(21000.0, 23000.0, 0.04)
STEPS = 235


def started(epochs: int = 10, notice: str | None = None, run: Path | None = None) -> Started:
    return Started(
        recipe=recipes.get("lenet-d2l").but(epochs=epochs),
        run=run,
        device="cpu",
        device_title="AMD EPYC 9R45, 2 threads",
        engine="eager",
        data="fashion-mnist",
        data_source="/usr/share/datasets/fashion-mnist",
        notice=notice,
        train_images=60000,
        test_images=10000,
        classes=("t-shirt", "trouser"),
        steps=STEPS,
        parameters=61706,
    )


def _figures(position: float) -> tuple[float, float]:
    return 0.469 + 1.83 * math.exp(-position), 0.824 - 0.72 * math.exp(-position)


def chunk(epoch: int, step: int, mark: bool = True) -> ChunkDone:
    loss, acc = _figures(epoch - 1 + step / STEPS)
    return ChunkDone(epoch, step, STEPS, step * 256, loss, acc, SPEED, mark)


def epoch_done(epoch: int, epochs: int = 10) -> EpochDone:
    loss, acc = _figures(epoch)
    test = acc - 0.02 - 0.03 * (epoch % 3 == 0)
    return EpochDone(
        epoch, epochs, loss, acc, loss + 0.05, test, round(10000 * test), 10000, SPEED, 2.9, 0.2
    )


def result(run: str | None = None, epochs: int = 10) -> Result:
    return Result(
        run=run,
        recipe="lenet-d2l",
        network="lenet",
        data="fashion-mnist",
        device="cpu",
        epochs=epochs,
        train_loss=0.469,
        train_acc=0.824,
        test_loss=0.52,
        test_acc=0.804,
        seconds=31.0,
        images_per_s=21000.0,
        images_per_s_compute=23000.0,
        data_share=0.04,
    )


def events(
    epochs: int = 10, notice: str | None = None, plateau: int | None = None, run: Path | None = None
) -> Iterator[Event]:
    """A whole training; ``plateau`` names an epoch that ends with a notice."""
    yield started(epochs, notice, run)
    for epoch in range(1, epochs + 1):
        for step in range(1, STEPS + 1, 13):
            yield chunk(epoch, step, mark=step % 39 == 1)
        yield epoch_done(epoch, epochs)
        if epoch == plateau:
            yield Noticed("plateau", epoch, "The loss sits at ln 10: the network still guesses.")
    yield Finished(result(None if run is None else str(run), epochs), notice)
