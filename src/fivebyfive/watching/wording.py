"""The words that every listener shares: header, figures, speeds, times."""

from __future__ import annotations

from ..lib.units import clock
from ..training.events import (
    EpochDone,
    Event,
    LearningRateChanged,
    Paused,
    Result,
    Resumed,
    Speed,
    Started,
    Stopped,
)


def header(started: Started) -> list[tuple[str, str]]:
    """What is about to be trained, as pairs of a label and its text."""
    recipe = started.recipe
    pairs = [
        ("recipe", f"{recipe.name} · {recipe.network}, {started.parameters:,} parameters"),
        (
            "training",
            f"{_count(recipe.epochs, 'epoch')} of {_count(started.steps, 'step')} · "
            f"batch size {recipe.batch_size} · {recipe.optimizer}, lr {recipe.lr:g} · "
            f"seed {recipe.seed}"
            + (f" · {recipe.precision}" if recipe.precision != "fp32" else ""),
        ),
        (
            "data",
            f"{started.data} · {started.train_images:,} training and "
            f"{started.test_images:,} test images",
        ),
        ("from", started.data_source),
        ("device", f"{started.device}, {started.device_title} · {started.engine} engine"),
    ]
    if started.kernels is not None:
        pairs.append(("kernels", started.kernels))
    if started.memory is not None:
        pairs.append(("memory", started.memory))
    if started.resumed is not None:
        pairs.append(("resumed", started.resumed))
    if started.run is not None:
        pairs.append(("run", str(started.run)))
    return [(label, printable(text)) for label, text in pairs]


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def figures(of: EpochDone | Result) -> str:
    """``loss 0.469, train acc 0.824, test acc 0.804``, as the book prints it."""
    return f"loss {of.train_loss:.3f}, train acc {of.train_acc:.3f}, test acc {of.test_acc:.3f}"


def speeds(speed: Speed) -> str:
    """Both speeds and the share of the data, short enough for a line that changes."""
    return (
        f"{rate(speed.images_per_s_compute)} images/s training steps only · "
        f"{rate(speed.images_per_s)} with data loading ({percent(speed.data_share)})"
    )


def summary(result: Result) -> list[str]:
    """The last lines: the figures, both speeds, and where the run is kept."""
    lines = [
        figures(result),
        f"{result.images_per_s_compute:.1f} images/s training steps only · "
        f"{result.images_per_s:.1f} with data loading ({percent(result.data_share)})",
    ]
    if result.run is not None:
        lines.append(f"run {printable(result.run)}")
    return lines


def control(event: Event) -> str | None:
    """The line for what a control asked for; ``None`` for other events."""
    match event:
        case Paused():
            return f"paused in epoch {event.epoch}, after step {event.step}"
        case Resumed():
            return f"resumed after {clock(event.seconds)}"
        case LearningRateChanged():
            place = f"epoch {event.epoch}, after step {event.step}"
            return f"learning rate {event.lr:g} instead of {event.before:g} from {place}, on"
        case Stopped():
            return f"stopped in epoch {event.epoch}, after step {event.step}; it can be resumed"
        case _:
            return None


def rate(images_per_s: float) -> str:
    """Images per second with as many digits as mean something."""
    return f"{images_per_s:,.0f}" if images_per_s >= 100 else f"{images_per_s:.1f}"


def percent(share: float) -> str:
    """A share from 0 to 1 in whole percent."""
    return f"{100 * share:.0f} %"


def printable(text: str) -> str:
    """``text`` on one line and without control characters, whatever a path or message holds."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
