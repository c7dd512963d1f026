"""Recipes: what to train, on what, and how; by name, and changed at will."""

from __future__ import annotations

from ..lib.errors import UnknownNameError
from .named import RECIPES
from .recipe import (
    SETTINGS,
    Initialisation,
    Loss,
    Optimizer,
    Precision,
    Published,
    Recipe,
    ResumeSettings,
    Settings,
    from_dict,
)

__all__ = [
    "RECIPES",
    "SETTINGS",
    "Initialisation",
    "Loss",
    "Optimizer",
    "Precision",
    "Published",
    "Recipe",
    "ResumeSettings",
    "Settings",
    "from_dict",
    "get",
    "names",
]


def names() -> list[str]:
    """The named recipes, sorted."""
    return sorted(RECIPES)


def get(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        UnknownNameError: with the nearest names.
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise UnknownNameError("recipe", name, RECIPES) from None
