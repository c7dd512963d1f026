"""Running recipes over several seeds and judging them against what was published."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from .. import recipes
from ..engines.interface import Epoch, Metrics
from ..lib.errors import DataError, RecipeError
from ..lib.randomness import epoch_order
from ..lib.text import plain
from ..lib.units import duration
from ..recipes import Published, Recipe
from ..runs.folder import check_free
from ..training.session import Session
from ..watching.choice import Mode
from . import resolve
from .train import ready, train

#: What a published figure is called, and the place of its number in a run's epochs.
FIGURES: dict[str, tuple[str, int]] = {
    "train_loss": ("train_loss", -1),
    "train_acc": ("train_acc", -1),
    "test_acc": ("test_acc", -1),
    "test_acc_epoch_1": ("test_acc", 0),
}


@dataclass(frozen=True)
class Comparison:
    """One figure of a recipe over all seeds beside the published one."""

    recipe: str
    figure: str
    values: tuple[float, ...]
    published: Published

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float:
        """The standard deviation over the seeds; 0.0 for a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    @property
    def mean_inside(self) -> bool:
        """Whether the mean over the seeds lies inside the published range."""
        return self.published.excess(self.mean) == 0.0

    @property
    def inside(self) -> int:
        """How many seeds lie inside the published range."""
        return sum(self.published.excess(value) == 0.0 for value in self.values)

    @property
    def worst(self) -> float:
        """The largest distance of a seed from the range, with its sign; 0.0 if all are inside."""
        return max((self.published.excess(value) for value in self.values), key=abs)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = ("mean", "sd", "mean_inside", "inside", "worst")
        return {**asdict(self), **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, repr=False)
class Reproduction:
    """What :func:`reproduce` found: a comparison a figure, and the folders of the runs.

    Print it, to a ``rich`` console or plainly, for a table.
    """

    comparisons: tuple[Comparison, ...]
    runs: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every figure of every seed lies inside its published range."""
        return all(c.inside == len(c.values) for c in self.comparisons)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "ok": self.ok,
            "comparisons": [c.as_dict() for c in self.comparisons],
            "runs": list(self.runs),
        }

    def __repr__(self) -> str:
        return plain(self)

    def __rich__(self) -> Table:
        # Two lines a figure, and nothing cut: it has to be read in a terminal of 80 columns, too.
        table = Table(box=None, padding=(0, 2, 1, 0))
        published, here = "published\nrange (runs)", "here\nlowest–highest (runs)"
        for name in ("recipe", "figure", published, here, "verdict"):
            table.add_column(name, overflow="fold")
        for c in self.comparisons:
            table.add_row(
                c.recipe,
                c.figure.replace("_", " "),
                f"{_mean(c.published)}\n{_range(c.published)}",
                f"{c.mean:.4f} ± {c.sd:.4f}\n"
                f"{min(c.values):.4f}–{max(c.values):.4f} ({len(c.values)})",
                _comparison_words(c),
            )
        return table


def reproduce(
    names: str | Sequence[str] = ("lenet-d2l",),
    seeds: int = 3,
    *,
    data: str | Path | None = None,
    device: str = "auto",
    engine: str = "auto",
    run: str | Path | None = None,
    watch: Mode = "lines",
    say: Callable[[str], None] = lambda _: None,
) -> Reproduction:
    """Train each recipe with the seeds 0 to ``seeds - 1`` and compare with what was published.

    Args:
        names: recipes that carry published figures.
        seeds: how many trainings of each recipe.
        data: a folder to look for the datasets in first.
        device: as for :func:`fivebyfive.train`.
        engine: as for :func:`fivebyfive.train`.
        run: a new folder for the runs; without it ``runs/<date-time>-reproduce``.
        watch: how to show each training.
        say: gets the lines that say, before anything starts, how long it will take.

    Raises:
        RecipeError: no seeds asked for, or a recipe with no published figures.
        DataError: ``data`` isn't what the figures were published for.
        FiveByFiveError: as from :func:`fivebyfive.train`.
    """
    if seeds < 1:
        raise RecipeError(f"seeds is {seeds}; expected at least 1.")
    chosen = {r.name: r for r in map(_published, [names] if isinstance(names, str) else names)}
    folder = (
        Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-reproduce" if run is None else Path(run)
    )
    check_free(folder)
    total = 0.0
    for recipe in chosen.values():
        seconds, machine = _foresee(recipe, data, device, engine)
        total += seeds * seconds
        say(f"{recipe.name}: about {duration(seconds)} a seed on {machine}")
    count = len(chosen) * seeds
    trainings = "1 training" if count == 1 else f"{count} trainings"
    say(f"{trainings}, about {duration(total)} in all; they go to {folder}")
    comparisons, folders = [], []
    for recipe in chosen.values():
        epochs = []
        for seed in range(seeds):
            done = train(
                recipe.but(seed=seed),
                data=data or recipe.dataset,
                run=folder / f"{recipe.name}-seed-{seed}",
                device=device,
                engine=engine,
                watch=watch,
            )
            epochs.append([row for row in done.metrics() if row["event"] == "epoch"])
            folders.append(str(done.shown))
        for figure, published in recipe.published.items():
            key, index = FIGURES[figure]
            values = tuple(rows[index][key] for rows in epochs)
            comparisons.append(Comparison(recipe.name, figure, values, published))
    return Reproduction(tuple(comparisons), tuple(folders))


def _foresee(
    recipe: Recipe, data: str | Path | None, device: str, engine: str
) -> tuple[float, str]:
    """How long a training takes, and on what; refuses data that the figures aren't for."""
    # Asked for by name, so that the sample never stands in.
    session = ready(recipe, data=data or recipe.dataset, device=device, engine=engine)
    if session.data.name != recipe.dataset:
        raise DataError(
            f"the figures of {recipe.name} are for {recipe.dataset}, which {data} isn't. Leave "
            f"--data out, or name a folder that holds {recipe.dataset}."
        )
    return estimate(session), session.started(None).device_title


def estimate(session: Session, seconds: float = 1.0) -> float:
    """How long the session's whole training will take, in seconds, from a few measured steps.

    The steps train the session's network: don't use the session afterwards. Testing an image is
    taken to cost a third of training on one (forward, without the two products of backward).
    """
    recipe, images = session.recipe, len(session.data.train)
    order = epoch_order(recipe.seed, 1, images).to(session.device)
    epoch = Epoch(1, order, recipe.batch_size)
    session.engine.train(epoch, 0, 1, Metrics())  # buffers and kernels are set up by the first step
    begin, done = time.perf_counter(), 0
    while done < 200 and (done == 0 or time.perf_counter() - begin < seconds):
        step = done % max(1, epoch.steps - 1)
        session.engine.train(epoch, step, step + 1, Metrics())
        done += 1
    image = (time.perf_counter() - begin) / (done * min(recipe.batch_size, images))
    return recipe.epochs * image * (images + len(session.data.test) / 3)


def _published(name: str) -> Recipe:
    recipe = resolve.recipe(name)
    if not recipe.published:
        having = ", ".join(n for n, r in recipes.RECIPES.items() if r.published)
        raise RecipeError(f"no figures are published for {name}. There are for: {having}.")
    return recipe


def _mean(published: Published) -> str:
    if published.mean is None:
        return "–"
    spread = "" if published.sd is None else f" ± {published.sd:.3f}"
    return f"{published.mean:.4g}{spread}"


def _range(published: Published) -> str:
    return f"{published.low:.3f}–{published.high:.3f} ({published.builds})"


def _comparison_words(comparison: Comparison) -> str:
    out = len(comparison.values) - comparison.inside
    if not out:
        return "inside"
    verdict = f"mean {'inside' if comparison.mean_inside else 'outside'}"
    return (
        f"{verdict}; {out} of {len(comparison.values)} runs out, by up to {comparison.worst:+.4f}"
    )
