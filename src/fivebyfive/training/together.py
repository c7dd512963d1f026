"""Several processes before their first step: a device for each, and the same work for all."""

from __future__ import annotations

import torch
from torch import nn

from .. import __version__
from ..datasets.splits import Dataset
from ..engines.team import Team
from ..errors import DeviceError, RecipeError
from ..recipes import Recipe
from .devices import choose


def device_of(name: str, team: Team) -> torch.device:
    """The device called ``name``; of several processes each takes a card of its own.

    Raises:
        DeviceError: there is none, or none left for this process.
    """
    device = choose(name)
    if team.size == 1:
        return device
    if device.type == "mps" and name == "auto":
        return torch.device("cpu")
    if device.type == "mps":
        raise DeviceError("several processes can't train on mps. --device cpu works.")
    if device.type == "cpu":
        return device
    cards = torch.cuda.device_count()
    if team.local_rank >= cards:
        raise DeviceError(
            f"there is no card for process {team.local_rank + 1} on this machine, which has "
            f"{cards}. Start at most {cards} here (--nproc-per-node), or train on --device cpu."
        )
    return torch.device("cuda", team.local_rank)


def check_share(recipe: Recipe, team: Team) -> None:
    """Refuse more processes than a batch has images.

    Raises:
        RecipeError: with both numbers.
    """
    if team.size > recipe.batch_size:
        raise RecipeError(
            f"{team.size} processes can't share batches of {recipe.batch_size} images; start at "
            f"most {recipe.batch_size} (--nproc-per-node)."
        )


def check_same(
    team: Team, recipe: Recipe, data: Dataset, network: nn.Module, device: torch.device
) -> None:
    """See to it that all processes train the same thing on the same data with the same versions.

    Raises:
        TeamError: what differs, and where.
    """
    parameters = {name: list(p.shape) for name, p in network.named_parameters()}
    settings = recipe.as_dict()
    del settings["dataset"]  # it may lie in differently named folders
    team.check_same(
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
