"""What an accelerated network costs a call beside computing, and what a first call costs.

    python benchmarks/calls.py --rounds 7

LeNet is called as it is, layers in order, and as the same network with a ``forward`` of its own;
each turn is a process of its own. ``look_us`` is the time to see what the forward does, at every
call; ``first_s`` is that of the first call, importing what it takes included; ``step_ms`` a step in
a loop of the user's own (256 images: forward, backward, SGD), and ``plain_ms`` that of PyTorch.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
import timeit
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fivebyfive import networks
from fivebyfive.kernels.accelerate import Fused, accelerate
from harness import compare, machine, ratios, save, spread

IMAGES = 256


class OwnForward(nn.Module):
    """LeNet, written as people write it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = networks.build("lenet")

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        for layer in self.layers:
            x = layer(x)
        return x


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "in order": lambda: networks.build("lenet"),
    "own forward": OwnForward,
}


def measure(name: str) -> dict[str, float]:
    """In this process; see above."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    x, y = torch.rand(IMAGES, 1, 28, 28), torch.arange(IMAGES) % 10
    plain, fused = copy.deepcopy(network), Fused(network)
    begin = time.perf_counter()
    fused.look(x)
    first = time.perf_counter() - begin
    looks = timeit.repeat(lambda: fused.look(x), number=1000, repeat=7)
    accelerate(network)
    steps = [_step(each, x, y) for each in (network, plain)]
    times: list[list[float]] = [[], []]
    for _ in range(10):
        for step, taken in zip(steps, times, strict=True):
            taken.append(timeit.timeit(step, number=20) / 20)
    mine, theirs = (1e3 * statistics.median(taken) for taken in times)
    return {
        "look_us": 1e6 * min(looks) / 1000,
        "first_s": first,
        "step_ms": mine,
        "plain_ms": theirs,
    }


def _step(network: nn.Module, x: Tensor, y: Tensor) -> Callable[[], object]:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=list(NETWORKS), help="run one, once, in this process")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only)))
        return
    results = compare(__file__, list(NETWORKS), options.rounds, [])
    for name, each in results.items():
        print(f"{name}: {spread([e['look_us'] for e in each])} µs a call")
        print(f"{name}: {spread([e['first_s'] for e in each])} s the first call")
        faster = ratios([e["plain_ms"] for e in each], [e["step_ms"] for e in each])
        print(f"{name}: a step {spread(faster)} times as fast as PyTorch's")
    path = save("calls", {"about": {**machine(), "rounds": options.rounds}, "results": results})
    print(f"raw figures: {path}")


if __name__ == "__main__":
    main()
