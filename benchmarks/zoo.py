"""How fast each network trains on this processor, beside PyTorch in either layout.

    python benchmarks/zoo.py
    python benchmarks/zoo.py resnet18 vgg --precision bf16 --rounds 5

Images a second of training steps alone, on random images of the size that the network is for, in
memory: gathering a batch, forward, backward, plain SGD, and the loss and the right answers. Every
turn is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn

from fivebyfive import engines, networks, recipes
from fivebyfive.datasets.splits import Split
from fivebyfive.engines.allocator import keep_large_buffers
from fivebyfive.engines.interface import Epoch, Job, Metrics
from fivebyfive.training.weights import build_seeded
from foreign import FOREIGN
from harness import compare, fma_peak, machine, ratios, save, spread

#: Images a step, and the seconds that are measured.
SMALL = 28
BATCH = {SMALL: 256, 96: 64, 224: 32}
SECONDS = 3.0
STEPS = 3
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    everyone = [*networks.names(), *FOREIGN]
    parser.add_argument("networks", nargs="*", default=everyone)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--only", choices=CONTENDERS, help="run one, once, in this process")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(CONTENDERS[options.only](options.networks[0], options.precision)))
        return
    about = {**machine(), "precision": options.precision, "rounds": options.rounds}
    about["fma_peak_gflops"] = fma_peak(about["threads"])
    found = {}
    for name in options.networks:
        words = [name, "--precision", options.precision]
        found[name] = compare(__file__, options.contenders, options.rounds, words)
        print(row(name, found[name]), flush=True)
        path = save(f"zoo-{options.precision}", {"about": about, "results": found})
    print(f"raw figures: {path}")


def row(name: str, results: dict[str, list[dict[str, float]]]) -> str:
    """Each contender's images a second, and ours beside the best of the others, round by round."""
    cells = [f"{who} {spread([r['images_s'] for r in rounds])}" for who, rounds in results.items()]
    others = [rounds for who, rounds in results.items() if who != "ours"]
    if "ours" in results and others:
        best = [max(r["images_s"] for r in rounds) for rounds in zip(*others, strict=True)]
        pairs = ratios([r["images_s"] for r in results["ours"]], best)
        cells.append(f"{statistics.median(pairs):.2f}× ({min(pairs):.2f}–{max(pairs):.2f})")
        memory = [statistics.median(r["peak_mb"] for r in each) for each in others]
        mine = statistics.median(r["peak_mb"] for r in results["ours"])
        cells.append(f"memory {mine / min(memory):.2f}")
    return f"{name:12} " + "; ".join(cells)


def made(name: str) -> tuple[nn.Module, int]:
    """The network, initialised as the book does, and the side of its images."""
    build = FOREIGN.get(name) or partial(networks.build, name)
    side = SMALL if name in FOREIGN else networks.get(name).input[1]
    return build_seeded(build, "xavier", 0, torch.empty(0)), side


def in_pytorch(name: str, precision: str, layout: torch.memory_format) -> dict[str, float]:
    """The loop that everyone writes, with large buffers kept."""
    keep_large_buffers()
    network, side = made(name)
    network.to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    images, labels = drawn(side)
    pixels = images.float().div_(255).contiguous(memory_format=layout)
    order = torch.randperm(len(images))

    def step() -> None:
        x, y = pixels[order], labels[order]
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            scores = network(x)
        loss = F.cross_entropy(scores.float(), y)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            float(loss)
            int((scores.argmax(1) == y).sum())

    return measured(step, len(images))


def ours(name: str, precision: str) -> dict[str, float]:
    """The CPU engine; turning bytes into pixels is included."""
    network, side = made(name)
    images, labels = drawn(side)
    split = Split(images, labels)
    recipe = recipes.get("lenet-d2l").but(lr=0.01, precision=precision, batch_size=len(images))  # type: ignore[arg-type]
    engine = engines.make("cpu", Job(network, recipe, split, split, CPU))
    # As in a training, some steps at a time: here about a tenth of a second.
    steps = 10 if side == SMALL else 1
    epoch = Epoch(1, torch.arange(len(images)).repeat(steps), len(images))
    return measured(lambda: engine.train(epoch, 0, steps, Metrics()), steps * len(images))


def drawn(side: int) -> tuple[Tensor, Tensor]:
    """A batch of random images and labels."""
    torch.manual_seed(0)
    count = BATCH[side]
    images = torch.randint(0, 256, (count, 1, side, side), dtype=torch.uint8)
    return images, torch.randint(0, 10, (count,))


def measured(step: Callable[[], object], images: int) -> dict[str, float]:
    """The median step, after some that warm up."""
    seconds: list[float] = []
    for _ in range(STEPS):
        step()
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(seconds) < STEPS:
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images_s": images / statistics.median(seconds), "peak_mb": peak}


CONTENDERS: dict[str, Callable[[str, str], dict[str, float]]] = {
    "plain": partial(in_pytorch, layout=torch.contiguous_format),
    "channels_last": partial(in_pytorch, layout=torch.channels_last),
    "ours": ours,
}

if __name__ == "__main__":
    main()
