"""Several processes before their first step: a device for each, and the same work for all."""

from __future__ import annotations

import torch
from torch import nn

from ..datasets.splits import Dataset
from ..engines.process_group import ProcessGroup
from ..lib.errors import DeviceError, RecipeError
from ..recipes import Recipe
from ..version import __version__
from .devices import choose


def device_of(name: str, processes: ProcessGroup) -> torch.device:
    """The device called ``name``; of several processes each takes a card of its own.

    Raises:
        DeviceError: there is none, or none left for this process.
    """
    device = choose(name)
    if processes.size == 1:
        return device
    if device.type == "mps" and name == "auto":
        return torch.device("cpu")
    if device.type == "mps":
        raise DeviceError("several processes can't train on mps. --device cpu works.")
    if device.type == "cpu":
        return device
    cards = torch.cuda.device_count()
    if processes.local_rank >= cards:
        raise DeviceError(
            f"there is no card for process {processes.local_rank + 1} on this machine, which has "
            f"{cards}. Start at most {cards} here (--nproc-per-node), or train on --device cpu."
        )
    return torch.device("cuda", processes.local_rank)


def check_share(recipe: Recipe, processes: ProcessGroup) -> None:
    """Refuse more processes than a batch has images.

    Raises:
        RecipeError: with both numbers.
    """
    if processes.size > recipe.batch_size:
        raise RecipeError(
            f"{processes.size} processes can't share batches of {recipe.batch_size} images; "
            f"start at most {recipe.batch_size} (--nproc-per-node)."
        )


def check_same(
    processes: ProcessGroup, recipe: Recipe, data: Dataset, network: nn.Module, device: torch.device
) -> None:
    """See to it that all processes train the same thing on the same data with the same versions.

    Raises:
        ProcessGroupError: what differs, and where.
    """
    parameters = {name: list(p.shape) for name, p in network.named_parameters()}
    settings = recipe.as_dict()
    del settings["dataset"]  # it may lie in differently named folders
    processes.check_same(
        {
            "the version of fivebyfive": __version__,
            "the version of PyTorch": str(torch.__version__),
            "the kind of device": device.type,
            **{f"the setting {name}": value for name, value in settings.items()},
            **{f"the content of {name}": digest for name, digest in data.digests.items()},
            "the number of images": [len(data.train), len(data.test)],
            "the network's parameters": parameters,
        }
    )
