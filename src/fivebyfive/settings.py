"""What a setting is: a field of a record that a user may set, with its meaning and its range.

A field is declared as ``lr: Annotated[float, Setting("learning rate", above=0)] = 0.9``. The check
of its values, the flag in the shell, the key in a TOML file and the table in docs/train.md come
from that line.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from .lib.errors import RecipeError

#: PyTorch counts, and seeds, in 64 bits with a sign.
LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True)
class Setting:
    """One setting. What stands first is written beside the field; the rest is read from the field.

    ``least`` is the smallest value allowed, ``above`` a bound that is not allowed itself.
    ``alias`` is a second name in the shell and in TOML files.
    """

    help: str
    least: int | None = None
    above: float | None = None
    alias: str = ""
    name: str = ""
    type: type = str
    choices: tuple[str, ...] = ()
    optional: bool = False
    default: Any = None

    @property
    def flags(self) -> list[str]:
        """Its names in the shell."""
        return [f"--{name.replace('_', '-')}" for name in (self.name, self.alias) if name]

    @property
    def metavar(self) -> str:
        """What stands for a value in the shell's help."""
        return "|".join(self.choices) or {int: "N", float: "X"}.get(self.type, "WORD")

    @property
    def expected(self) -> str:
        """The values that are allowed, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        words = {int: "a whole number", float: "a finite number"}.get(self.type, "a name")
        least = "" if self.least is None else f" of at least {self.least}"
        return words + least + ("" if self.above is None else f" above {self.above}")

    def check(self, value: object) -> None:
        """Refuse a value that can't be.

        Raises:
            RecipeError: naming the setting, what came and what was expected.
        """
        if value is None and self.optional:
            return
        if not self._allows(value):
            raise RecipeError(f"{self.name} is {value!r}; expected {self.expected}.")
        if self.type is int and isinstance(value, int) and value > LARGEST_INTEGER:
            raise RecipeError(f"{self.name} is {value}; expected a number below 2**63.")

    def _allows(self, value: object) -> bool:
        if self.choices:
            return value in self.choices
        if self.type is str:
            return isinstance(value, str) and value != ""
        if isinstance(value, bool) or not isinstance(
            value, int if self.type is int else int | float
        ):
            return False
        largest = sys.float_info.max  # a whole number may lie beyond it; a NaN is below nothing
        return (
            (self.type is int or -largest <= value <= largest)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
        )


def declared(record: Any) -> dict[str, Setting]:
    """The settings among the fields of a dataclass, by name, in their order."""
    hints = get_type_hints(record, include_extras=True)
    found = {}
    for field in dataclasses.fields(record):
        if get_origin(hints[field.name]) is not Annotated:
            continue
        kind, setting = get_args(hints[field.name])
        optional = type(None) in get_args(kind)
        kind = get_args(kind)[0] if optional else kind
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        found[field.name] = dataclasses.replace(
            setting,
            name=field.name,
            type=str if choices else kind,
            choices=choices,
            optional=optional,
            default=None if field.default is dataclasses.MISSING else field.default,
        )
    return found
