"""The networks by name: what they are called, what they take, and how to build one.

To add a network, write its file beside this one, with a builder of the same name (``-`` as ``_``)
taking ``(channels, classes)``, and add its line to :data:`NETWORKS`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ..lib.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

#: Builds a network for images of so many channels, and so many classes.
Build: TypeAlias = "Callable[[int, int], nn.Module]"


@dataclass(frozen=True)
class Architecture:
    """A named network: its input for one image ``(C, H, W)``, and the recipe that trains it."""

    name: str
    input: tuple[int, int, int]
    parameters: int
    recipe: str
    summary: str

    def build(self, channels: int = 1, classes: int = 10) -> nn.Module:
        """A fresh network with PyTorch's own initialisation, on the CPU, in float32."""
        builder = self.name.replace("-", "_")
        module = importlib.import_module(f".{builder}", __name__)
        network: nn.Module = getattr(module, builder)(channels, classes)
        return network


NETWORKS: dict[str, Architecture] = {
    a.name: a
    for a in (
        Architecture("lenet", (1, 28, 28), 61_706, "lenet-d2l", "LeNet with sigmoids (1998)"),
        Architecture("convnet", (1, 28, 28), 1_007_590, "convnet-mnist", "the MNIST ConvNet"),
        Architecture("alexnet", (1, 224, 224), 46_764_746, "alexnet-d2l", "AlexNet (2012)"),
        Architecture("vgg", (1, 224, 224), 43_093_322, "vgg-d2l", "a small VGG-11 (2014)"),
        Architecture("nin", (1, 224, 224), 1_992_166, "nin-d2l", "network in network (2013)"),
        Architecture("googlenet", (1, 96, 96), 5_977_530, "googlenet-d2l", "GoogLeNet (2014)"),
        Architecture("lenet-bn", (1, 28, 28), 44_878, "lenet-bn-d2l", "LeNet with batch norm"),
        Architecture("resnet18", (1, 96, 96), 11_178_378, "resnet-d2l", "ResNet-18 (2015)"),
        Architecture("densenet", (1, 96, 96), 758_226, "densenet-d2l", "a small DenseNet (2016)"),
    )
}


def names() -> list[str]:
    """The named networks, sorted."""
    return sorted(NETWORKS)


def get(name: str) -> Architecture:
    """The architecture called ``name``.

    Raises:
        UnknownNameError: with the nearest names.
    """
    try:
        return NETWORKS[name]
    except KeyError:
        hint = "A network of your own goes by FILE.py:NAME."
        raise UnknownNameError("network", name, NETWORKS, hint) from None


def is_user_network(name: str) -> bool:
    """Whether ``name`` has the form ``FILE.py:NAME``, for a network of the user's own."""
    return name.rpartition(":")[0].endswith(".py")


def builder(name: str) -> Build:
    """What builds the network called ``name``, or the one that ``FILE.py:NAME`` stands for.

    FILE.py is run once, now; what it gives is called without arguments.

    Raises:
        UnknownNameError: no network has this name.
        NetworkError: the file can't be run, or has no such network.
    """
    if not is_user_network(name):
        return get(name).build
    from . import user

    found = user.find(name)
    return lambda channels, classes: found.make()  # noqa: ARG005


def build(name: str, channels: int = 1, classes: int = 10) -> nn.Module:
    """A fresh network by name; see :meth:`Architecture.build`."""
    return get(name).build(channels, classes)
