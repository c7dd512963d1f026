"""Five by Five: train, watch, test and inspect the classic convolutional networks.

    import fivebyfive as fbf

    run = fbf.train("lenet-d2l", epochs=3)
    print(run.result["test_acc"])

Nothing heavy is imported before it's used: ``import fivebyfive`` doesn't load PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from . import d2l, datasets, networks, recipes
    from .kernels.accelerate import accelerate
    from .lib.errors import FiveByFiveError
    from .recipes import Recipe
    from .runs import Run
    from .training import events
    from .training.control import Control
    from .verbs.layers import layers
    from .verbs.reproduce import reproduce
    from .verbs.resolve import load_run
    from .verbs.resume import resume
    from .verbs.test import test
    from .verbs.train import train

#: The module that each public name comes from, or is; for a room, nothing.
_HOMES = {
    "Control": "training.control",
    "FiveByFiveError": "lib.errors",
    "accelerate": "kernels.accelerate",
    "Recipe": "recipes",
    "Run": "runs",
    "d2l": "",
    "datasets": "",
    "events": "training.events",
    "layers": "verbs.layers",
    "load_run": "verbs.resolve",
    "networks": "",
    "recipes": "",
    "reproduce": "verbs.reproduce",
    "resume": "verbs.resume",
    "test": "verbs.test",
    "train": "verbs.train",
}

__all__ = [
    "Control",
    "FiveByFiveError",
    "Recipe",
    "Run",
    "__version__",
    "accelerate",
    "d2l",
    "datasets",
    "events",
    "layers",
    "load_run",
    "networks",
    "recipes",
    "reproduce",
    "resume",
    "test",
    "train",
]


if not TYPE_CHECKING:  # a type checker reads the imports above, and here would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f".{_HOMES[name] or name}", __name__)
        return getattr(module, name, module)


def __dir__() -> list[str]:
    return sorted(__all__)
