"""A recipe's settings from a TOML file.

recipe = "lenet-d2l"     # optional: what to change; else what the command names
epochs = 3
lr = 0.5
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .errors import RecipeError, unknown
from .networks import is_own
from .recipes import SETTINGS

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover (the same library under its older name)
    import tomli as tomllib

RECIPE = "recipe"
ALIASES = {"data": "dataset"}
WORDS = (RECIPE, "network", "dataset", "optimizer", "init", "loss", "precision")


def read(path: str | Path) -> dict[str, Any]:
    """The settings in the file; ``batch-size`` and ``batch_size`` are the same key, as are ``data``
    and ``dataset``.

    Raises:
        RecipeError: the file can't be read, isn't TOML, has a key that no recipe knows, or names
            code to run.
    """
    try:
        with Path(path).open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        reason = error.strerror or error
        raise RecipeError(f"can't read the settings in {path}: {reason}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} isn't TOML: {error}.") from error
    settings = {ALIASES.get(key, key.replace("-", "_")): value for key, value in table.items()}
    for key, value in settings.items():
        if key != RECIPE and key not in SETTINGS:
            raise RecipeError(f"{path}: {unknown('setting', key, [*SETTINGS, RECIPE])}")
        if key in WORDS and not isinstance(value, str):
            raise RecipeError(f"{path}: {key} is {value!r}; expected a name in quotes.")
        if key in (RECIPE, "network") and is_own(value):
            raise RecipeError(
                f"{path}: {key} is {value!r}. Code of your own is only run where you name it "
                f"yourself: fivebyfive train {value} --config {path}."
            )
    return settings
