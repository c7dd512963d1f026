"""Noticing that a network is still guessing, and saying what that means."""

from __future__ import annotations

import math

from ..recipes import Recipe
from .events import EpochDone, Noticed


class Plateau:
    """Watches the epochs and speaks up once on entering the plateau and once on leaving it.

    At chance means: the test loss is within 5 % of ln K, which is what a network scores that gives
    each of K classes the same probability, and both accuracies are below 1.5/K.
    """

    def __init__(self, recipe: Recipe, classes: int, since: int | None = None) -> None:
        self._recipe = recipe
        self._classes = classes
        self.since = since

    def notice(self, done: EpochDone) -> Noticed | None:
        """What there is to say after this epoch, if anything."""
        if self._at_chance(done):
            if self.since is not None:
                return None
            self.since = done.epoch
            return Noticed("plateau", done.epoch, self._explain(done))
        if self.since is None or not math.isfinite(done.test_loss):
            return None
        epochs = done.epoch - self.since
        self.since = None
        message = (
            f"The network no longer gives all classes the same score, after {epochs} "
            f"epoch{'s' if epochs > 1 else ''} of guessing: test loss is {done.test_loss:.3f}, "
            f"test accuracy {done.test_acc:.3f}."
        )
        return Noticed("plateau-left", done.epoch, message)

    def _at_chance(self, done: EpochDone) -> bool:
        uniform = math.log(self._classes)
        low = 1.5 / self._classes
        near = abs(done.test_loss - uniform) <= 0.05 * uniform
        return self._classes > 1 and near and done.train_acc < low and done.test_acc < low

    def _explain(self, done: EpochDone) -> str:
        sits = (
            f"The network is still guessing: test loss {done.test_loss:.3f} is about "
            f"ln {self._classes} = {math.log(self._classes):.3f}, what equal probabilities for "
            f"all {self._classes} classes give."
        )
        xavier = (
            "" if self._recipe.init == "xavier" else " or Xavier initialisation (--init xavier)"
        )
        advice = self._recipe.plateau or (
            "Many networks leave this plateau by themselves. If yours doesn't within a few epochs, "
            f"try another learning rate (--lr){xavier}, and check that the pixels are scaled as "
            "the network expects (--mean, --std)."
        )
        going_on = " The training continues." if done.epoch < done.epochs else ""
        return f"{sits} {advice}{going_on}"
