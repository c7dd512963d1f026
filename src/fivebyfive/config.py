"""A recipe's settings from a TOML file.

recipe = "lenet-d2l"     # optional: what to change; else what the command names
epochs = 3
lr = 0.5
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .lib.errors import RecipeError, unknown
from .lib.files import expanded
from .networks import NETWORKS, is_user_network
from .recipes import RECIPES, SETTINGS

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover (the same library under its older name)
    import tomli as tomllib

RECIPE = "recipe"
ALIASES = {setting.alias: name for name, setting in SETTINGS.items() if setting.alias}
#: What may be named; a dataset's name may also be a path.
KNOWN = {RECIPE: [*RECIPES, *NETWORKS], "network": list(NETWORKS)}


def read(path: str | Path) -> dict[str, Any]:
    """The settings in the file; ``batch-size`` and ``batch_size`` are the same key, as are ``data``
    and ``dataset``.

    Raises:
        RecipeError: the file can't be read, isn't TOML, has a key that no recipe knows or a value
            that can't be, or names code to run.
    """
    try:
        with expanded(path, RecipeError).open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        reason = error.strerror or error
        raise RecipeError(f"can't read the settings in {path}: {reason}.") from error
    except ValueError as error:  # also of numbers with thousands of digits
        raise RecipeError(f"{path} isn't TOML: {error}.") from error
    settings = {ALIASES.get(key, key.replace("-", "_")): value for key, value in table.items()}
    if len(settings) < len(table):
        raise RecipeError(f"{path} sets something twice: {', '.join(table)}.")
    for key, value in settings.items():
        try:
            _check(key, value)
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from error
        if key in (RECIPE, "network") and is_user_network(value):
            raise RecipeError(
                f"{path}: {key} is {value!r}. Code of your own is only run where you name it "
                f"yourself: fivebyfive train {value} --config {path}."
            )
    return settings


def _check(key: str, value: Any) -> None:
    """Refuse what no recipe can have.

    Raises:
        RecipeError: naming the key, what came and what was expected.
    """
    if key == RECIPE:
        if not isinstance(value, str):
            raise RecipeError(f"{key} is {value!r}; expected a name in quotes.")
    elif key not in SETTINGS:
        raise RecipeError(unknown("setting", key, [*SETTINGS, RECIPE]))
    else:
        SETTINGS[key].check(value)
    if key in KNOWN and value not in KNOWN[key] and not is_user_network(value):
        raise RecipeError(unknown(key, value, KNOWN[key]))
