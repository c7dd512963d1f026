"""A user's own network, named as ``FILE.py:NAME``.

NAME is an ``nn.Module``, or something that makes one when called without arguments: a class or a
function. The file is run, so only a name that the user typed ever comes here, never one read from a
file.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

from ..errors import NetworkError, unknown


def is_own(name: str) -> bool:
    """Whether ``name`` has the form ``FILE.py:NAME``."""
    return name.rpartition(":")[0].endswith(".py")


def load(name: str) -> nn.Module:
    """Run FILE.py and return its network NAME.

    Raises:
        NetworkError: the file doesn't exist or raises, or NAME isn't there or isn't a network.
    """
    file, _, attribute = name.rpartition(":")
    module = _run(Path(file))
    if not hasattr(module, attribute):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise NetworkError(unknown(f"name in {file}", attribute, public))
    found = getattr(module, attribute)
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise NetworkError(
            f"{name} is a {type(found).__name__}; expected a torch.nn.Module, or a class or "
            f"function that makes one without arguments."
        )
    try:
        network = found()
    except Exception as error:
        raise NetworkError(
            f"calling {attribute}() of {file} raised {type(error).__name__}: {error}. It is called "
            f"without arguments; give them default values."
        ) from error
    if not isinstance(network, nn.Module):
        raise NetworkError(
            f"{attribute}() of {file} gave a {type(network).__name__}; expected a torch.nn.Module."
        )
    return network


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
    sys.path.insert(0, str(path.parent.resolve()))  # its own imports of files beside it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise NetworkError(f"running {path} raised {type(error).__name__}: {error}.") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module
