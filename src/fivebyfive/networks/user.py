"""A user's own network, named as ``FILE.py:NAME``.

NAME is an ``nn.Module``, or something that makes one when called without arguments: a class or a
function. The file is run, so only a name that the user typed may come here, never one that a run
folder or a settings file holds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ..lib.errors import NetworkError, unknown


@dataclass(frozen=True)
class UserNetwork:
    """A module, or what makes one, found in a user's file."""

    file: Path
    attribute: str
    found: Any

    def make(self) -> nn.Module:
        """The network; a new one each time if NAME is a class or a function.

        Raises:
            NetworkError: the call raises, or gives something else.
        """
        if isinstance(self.found, nn.Module):
            return self.found
        try:
            with _importing_from(self.file.parent):
                network = self.found()
        except (Exception, SystemExit) as error:
            raise NetworkError(
                f"calling {self.attribute}() of {self.file} raised {_spell(error)}. "
                f"It is called without arguments."
            ) from error
        if not isinstance(network, nn.Module):
            raise NetworkError(
                f"{self.attribute}() of {self.file} gave a {type(network).__name__}; "
                f"expected a torch.nn.Module."
            )
        return network


def find(name: str) -> UserNetwork:
    """Run FILE.py and look NAME up in it.

    Raises:
        NetworkError: the file doesn't exist or raises, or NAME isn't there or can't be a network.
    """
    path, _, attribute = name.rpartition(":")
    file = Path(path)
    module = _run(file)
    if not hasattr(module, attribute):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise NetworkError(f"{file} has no {attribute!r}: {unknown('name', attribute, public)}")
    found = getattr(module, attribute)
    if not callable(found):
        raise NetworkError(
            f"{name} is of type {type(found).__name__}; expected a torch.nn.Module, or a class or "
            f"function that makes one without arguments."
        )
    return UserNetwork(file, attribute, found)


def _run(path: Path) -> ModuleType:
    if not path.is_file():
        raise NetworkError(f"there is no file {path}. Expected FILE.py:NAME, e.g. net.py:Net.")
    # Its own name, so that a file called lenet.py can't hide a module of this or another package.
    name = f"fivebyfive_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _importing_from(path.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise NetworkError(f"running {path} raised {_spell(error)}.") from error
    return module


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Let the user's file import what lies beside it."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def _spell(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
