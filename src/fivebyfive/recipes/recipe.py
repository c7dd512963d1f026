"""Recipes: everything that decides a training's result, in one record.

A named recipe carries what its source published for it, so that a run can be judged. A recipe is
frozen; :meth:`Recipe.but` gives a changed copy, and a copy that would compute something else no
longer carries the published figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from ..lib.errors import RecipeError, unknown
from ..optimizers import OPTIMIZERS
from ..settings import Setting, declared

if TYPE_CHECKING:
    from typing_extensions import Unpack  # in Python's own typing only since 3.11

Optimizer = Literal["sgd", "adam"]  # those of optimizers.py
Initialisation = Literal["xavier", "default"]
Loss = Literal["cross-entropy", "nll"]
Precision = Literal["fp32", "bf16", "tf32", "auto"]


@dataclass(frozen=True)
class Published:
    """One published figure: its mean over ``builds`` runs, their spread, and the range they span.

    The runs are a book's public builds and, where ``basis`` says so, those of its readers.

    Where a source gives the mean and the standard deviation but no range, ``low`` and ``high`` are
    the mean ± 3 standard deviations; where it gives a single run, they are the house's tolerance.
    ``basis`` says which of these it is.
    """

    mean: float | None
    low: float
    high: float
    builds: int
    basis: str
    sd: float | None = None

    def excess(self, value: float) -> float:
        """How far ``value`` lies outside the range: 0.0 inside, negative below, positive above."""
        if value < self.low:
            return value - self.low
        return max(0.0, value - self.high)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train, on what, and how.

    To add a setting, declare it here and add its line to :class:`Settings`, which editors and type
    checkers read; the check of its values, its flag, its TOML key and its row in docs/train.md
    follow.
    """

    name: str
    network: Annotated[str, Setting("a named network, or FILE.py:NAME for one of your own")]
    dataset: Annotated[
        str,
        Setting(
            "fashion-mnist, mnist, sample, a folder with four IDX files, or a .npz file",
            alias="data",
        ),
    ] = "fashion-mnist"
    resize: Annotated[
        int | None, Setting("side of the images the network sees, in pixels", least=1)
    ] = None
    mean: Annotated[float, Setting("subtracted from every pixel after scaling to 0..1")] = 0.0
    std: Annotated[
        float, Setting("every pixel is divided by it after the mean is subtracted", above=0)
    ] = 1.0
    batch_size: Annotated[int, Setting("images a step", least=1)] = 256
    epochs: Annotated[int, Setting("passes over the training images", least=1)] = 10
    optimizer: Annotated[Optimizer, Setting(" or ".join(OPTIMIZERS))] = "sgd"
    lr: Annotated[float, Setting("learning rate", above=0)] = 0.9
    init: Annotated[
        Initialisation,
        Setting("xavier (weights of convolutions and linear layers) or default (PyTorch's)"),
    ] = "xavier"
    loss: Annotated[Loss, Setting("cross-entropy, or nll for networks that end in log_softmax")] = (
        "cross-entropy"
    )
    precision: Annotated[
        Precision,
        Setting("fp32, bf16 (weights and loss stay fp32), tf32 (CUDA only), or auto: the fastest"),
    ] = "fp32"
    seed: Annotated[
        int, Setting("decides the weights at the start and the order of the images", least=0)
    ] = 0
    limit: Annotated[
        int | None, Setting("use only the first N training and the first N test images", least=1)
    ] = None
    source: str = ""
    plateau: str = ""  # what a run of this recipe at chance may expect next
    published: Mapping[str, Published] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise RecipeError(f"name is {self.name!r}; expected a name.")
        for name, setting in SETTINGS.items():
            setting.check(getattr(self, name))

    def but(self, *, name: str | None = None, **changes: Unpack[Settings]) -> Recipe:
        """A copy with some settings changed; ``None`` leaves a setting as it is.

        The published figures stay only when nothing but the seed changed, or the precision: every
        one has to reach them. Changing the optimizer alone also takes that optimizer's usual
        learning rate, since the other's would not train.

        Raises:
            RecipeError: an unknown setting, or a value that can't be.
        """
        for key in changes.keys() - SETTINGS.keys():
            raise RecipeError(unknown("setting", key, SETTINGS))
        if changes.get("optimizer") not in (None, self.optimizer) and changes.get("lr") is None:
            spec = OPTIMIZERS.get(str(changes["optimizer"]))
            changes["lr"] = spec.usual_lr if spec else None  # an unknown one is refused below
        new: dict[str, Any] = {
            k: v for k, v in changes.items() if v is not None and v != getattr(self, k)
        }
        if new.keys() - {"seed", "precision"}:
            # What was said of the recipe doesn't hold for another.
            new |= {"published": {}, "plateau": ""}
        return dataclasses.replace(self, name=self.name if name is None else name, **new)

    def changed(self) -> list[str]:
        """The settings that differ from those of the named recipe of this name, if there is one."""
        from .named import RECIPES  # which are made of this class

        named = RECIPES.get(self.name, self)
        return [key for key in SETTINGS if getattr(self, key) != getattr(named, key)]

    def as_dict(self) -> dict[str, Any]:
        """The recipe as plain JSON values; :func:`from_dict` reads it back."""
        return dataclasses.asdict(self)


class ResumeSettings(TypedDict, total=False):
    """The settings that mean something in the middle of a run, as keywords."""

    epochs: int | None
    lr: float | None
    precision: Precision | None


class Settings(ResumeSettings, total=False):
    """Every setting of a recipe as a keyword; ``None`` leaves it as it is."""

    network: str | None
    dataset: str | None
    resize: int | None
    mean: float | None
    std: float | None
    batch_size: int | None
    optimizer: Optimizer | None
    init: Initialisation | None
    loss: Loss | None
    seed: int | None
    limit: int | None


#: What a user may set by a flag, a TOML file or a keyword.
SETTINGS: dict[str, Setting] = declared(Recipe)


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """Read a recipe back from :meth:`Recipe.as_dict`.

    Raises:
        RecipeError: a field is missing, unknown, or has a value that can't be.
    """
    try:
        published = {k: Published(**v) for k, v in dict(values.get("published", {})).items()}
        return Recipe(**{**values, "published": published})
    except TypeError as error:
        raise RecipeError(f"not a recipe: {error}.") from error
