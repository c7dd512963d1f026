"""What this machine and this installation can do, and why not more."""

from __future__ import annotations

import torch

from .. import datasets, networks, recipes
from ..datasets.locate import cache
from ..engines import fastest
from ..engines.coverage import coverage_of
from ..kernels.accelerate import Fused
from ..kernels.library import report
from ..runs.conditions import environment
from ..training.devices import choose, title


def examine() -> dict[str, str]:
    """Findings by name, each in words: versions, device, kernels of the CPU engine, data."""
    versions = environment()
    device = choose("auto")
    kernels = report()
    findings = {
        "fivebyfive": str(versions["fivebyfive"]),
        "python": f"{versions['python']} on {versions['platform']}",
        "torch": f"{versions['torch']}, {versions['threads']} threads",
        "device": f"{device}: {title(device)}",
        "engine": fastest(device),
        "cpu kernels": f"{kernels.active or 'none'}: {kernels.reason}",
        "cache": str(cache()),
    }
    for name, known in networks.NETWORKS.items():
        with torch.device("meta"):
            analysis = Fused(known.build()).analyse(torch.empty(2, *known.input))
        recipe = recipes.get(known.recipe)
        coverage = coverage_of(analysis, recipe.loss, recipe.optimizer)
        findings[f"{name} on a cpu"] = f"in the kernels: {coverage}"
    for listing in datasets.describe():
        findings[f"data: {listing.name}"] = listing.where
    return findings
