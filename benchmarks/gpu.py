"""How fast LeNet and AlexNet train on a CUDA card, against the ways people train them in PyTorch.

    python benchmarks/gpu.py --rounds 5
    python benchmarks/gpu.py --settings alexnet-bf16 --rounds 3
    python benchmarks/gpu.py --quick

Told are images trained on in a second over whole batches, after steps that warm up, data included.
Beside them, in the same rounds, stands what the card's matrix products reach: the share of it that
a contender reaches is its images/s times the FLOP that training on an image takes. In fp32 no
contender rounds to TensorFloat-32. Before anything is timed, the losses of the CUDA engine's first
steps are compared with the CPU's; where they differ nothing is timed. A contender that fails is
told, and left out. Needs a card, Pillow, and the full Fashion-MNIST.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn
from torch.utils.data import DataLoader

import fivebyfive as fbf
from contenders import OneByOne, network
from fivebyfive.datasets.pixels import Pixels
from fivebyfive.engines.interface import Epoch, Metrics
from fivebyfive.engines.precision import rounding_to_tf32
from fivebyfive.lib.randomness import epoch_order
from fivebyfive.recipes import Recipe
from fivebyfive.verbs import recipes
from fivebyfive.verbs.train import ready
from harness import compare, machine, product_peak, ratios, save, spread

SETTINGS = {
    "lenet": recipes.get("lenet-d2l"),
    "alexnet": recipes.get("alexnet-d2l"),
    "alexnet-bf16": recipes.get("alexnet-d2l").but(precision="bf16"),
}
CARD = torch.device("cuda")
#: Steps before the timed ones, in which the CUDA engine records its own; and how long to time.
WARM, SECONDS, QUICK_SECONDS = 40, 2.0, 0.5
#: Stretches whose losses are compared: the second is long enough for a graph of several steps.
CHECKED = (2, 8, 2)

#: Does so many steps and waits for them; gives a loss.
Run = Callable[[int], float]
Batch = tuple[Tensor, Tensor]


def textbook(recipe: Recipe) -> Run:
    """The book's loop over a DataLoader that opens image by image, 4 workers; always in fp32."""
    data = OneByOne(fbf.datasets.load(recipe.dataset).train, recipe)
    loader = DataLoader(data, recipe.batch_size, shuffle=True, num_workers=4, drop_last=True)
    batches = ((x.to(CARD), y.to(CARD)) for _ in itertools.count() for x, y in loader)
    return loop(recipe.but(precision="fp32"), network(recipe), batches, plain=True)


def eager(recipe: Recipe, layout: torch.memory_format) -> Run:
    """Strong eager: images on the card as bytes, a fused optimizer, no loss read on the way."""
    net = network(recipe).to(memory_format=layout)  # type: ignore[call-overload]
    return loop(recipe, net, resident(recipe, layout))


def resident(recipe: Recipe, layout: torch.memory_format) -> Iterator[Batch]:
    """Shuffled whole batches of images kept on the card as bytes."""
    data, pixels = fbf.datasets.load(recipe.dataset).train.to(CARD), Pixels(recipe.resize)
    while True:
        for indices in torch.randperm(len(data), device=CARD).split(recipe.batch_size):
            images = pixels(data.images[indices]).contiguous(memory_format=layout)
            if len(indices) == recipe.batch_size:
                yield images, data.labels[indices]


def loop(recipe: Recipe, net: nn.Module, batches: Iterator[Batch], plain: bool = False) -> Run:
    """The book's training loop."""
    optimizer = torch.optim.SGD(net.to(CARD).parameters(), lr=recipe.lr, fused=not plain)

    def run(steps: int) -> float:
        for x, y in itertools.islice(batches, steps):
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.bfloat16, enabled=recipe.precision == "bf16"):
                loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            if plain:
                loss.item()
        return loss.item()

    return run


def ours(recipe: Recipe, engine: str = "cuda", device: str = "cuda") -> Run:
    """The engine that ``fivebyfive train --engine …`` takes."""
    where = {"data": recipe.dataset, "device": device, "engine": engine}
    session = ready(recipe.name, precision=recipe.precision, **where)
    count, size, done = len(session.data.train), recipe.batch_size, 0
    whole = count // size

    def run(steps: int) -> float:
        nonlocal done
        end = done + steps
        while done < end:
            number, first = divmod(done, whole)
            stop = min(whole, first + end - done)
            order = epoch_order(recipe.seed, number + 1, count)[: whole * size]
            epoch = Epoch(number + 1, order.to(session.device), size)
            tally, _ = session.engine.train(epoch, first, stop, Metrics())
            done += stop - first
        for notice in session.engine.notices():
            print(f"{engine}: {notice.message}", file=sys.stderr)
        return tally.mean_loss

    return run


CONTENDERS: dict[str, Callable[[Recipe], Run]] = {
    "textbook": textbook,
    "eager": lambda recipe: eager(recipe, torch.contiguous_format),
    "channels_last": lambda recipe: eager(recipe, torch.channels_last),
    "ours_eager": lambda recipe: ours(recipe, "eager"),
    "ours_cuda": ours,
}


def check(recipe: Recipe) -> dict[str, list[float]]:
    """The first losses of the CUDA engine, which have to be those of the CPU in fp32."""
    runs = {"cpu": ours(recipe.but(precision="fp32"), "eager", "cpu"), "cuda": ours(recipe)}
    losses = {name: [run(steps) for steps in CHECKED] for name, run in runs.items()}
    within = 0.02 if recipe.precision == "bf16" else 0.001
    if not np.allclose(losses["cuda"], losses["cpu"], rtol=within):
        raise ArithmeticError(f"the losses differ, so nothing is timed: {losses}")
    return losses


def alone(name: str, recipe: Recipe, least: float) -> dict[str, float]:
    """The figures of one contender, in images/s and MB, or of the matrix products.

    ``least``: how many seconds to time at least.
    """
    if name == "products":
        dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
        return {"tflops": product_peak(CARD, dtype)}
    run = CONTENDERS[name](recipe)
    run(WARM)
    steps, seconds = WARM, 0.0
    while seconds < least:
        begin = time.perf_counter()
        loss = run(steps)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
        speed = steps * recipe.batch_size / seconds
        steps *= 2
    return {"images_s": speed, "loss": loss, "peak_mb": torch.cuda.max_memory_allocated() / 1e6}


def table(results: dict[str, list[dict[str, Any]]], rounds: int, flop: float) -> None:
    """Median (lowest–highest), the ratio to the textbook's loop, and the share of the peak."""
    whole = {name: figures for name, figures in results.items() if len(figures) == rounds}
    peaks = [each["tflops"] for each in whole.get("products", [])]
    if peaks:
        print(f"{'products':16}{spread(peaks):>28} TFLOP/s")
    speeds = {name: [each["images_s"] for each in whole.get(name, [])] for name in CONTENDERS}
    for name, speed in speeds.items():
        line = f"{name:16}{spread(speed) if speed else 'failed':>28}"
        if speed and peaks:
            share = ratios([100e-12 * flop * each for each in speed], peaks)
            line += f" images/s, {spread(share)} % of the products"
        if speed and speeds["textbook"]:
            line += f", {spread(ratios(speed, speeds['textbook']))} times textbook"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of short timings")
    parser.add_argument("--only", help="run one contender, once, in this process")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no CUDA card here, so there is nothing to time.", file=sys.stderr)
        raise SystemExit(2)
    if options.only:
        least = QUICK_SECONDS if options.quick else SECONDS
        with rounding_to_tf32(False):
            print(json.dumps(alone(options.only, SETTINGS[options.settings[0]], least)))
        return
    rounds, names = 1 if options.quick else options.rounds, ["products", *CONTENDERS]
    card, cudnn = torch.cuda.get_device_name(CARD), torch.backends.cudnn.version()
    about = {**machine(), "device": card, "cuda": torch.version.cuda, "cudnn": cudnn}
    found: dict[str, Any] = {}
    for name in options.settings:
        recipe, words = SETTINGS[name], ["--settings", name, *["--quick"] * options.quick]
        print(f"{name} on {card}, batch {recipe.batch_size}, {rounds} rounds", flush=True)
        try:
            losses = check(recipe)
        except Exception:  # the other settings may still be timed
            found[name] = {"failed": traceback.format_exc()}
            print(found[name]["failed"], flush=True)
            continue
        results = compare(__file__, names, rounds, words, all_must_run=False)
        flop = fbf.layers(recipe.network).flops_training
        found[name] = {"losses": losses, "flop_an_image": flop, "results": results}
        table(results, rounds, flop)
        # Saved each time: a card that is lent may be taken back.
        path = save(f"gpu-{re.sub('[^a-z0-9]+', '-', card.lower())}", {"about": about, **found})
        print(f"raw figures: {path}", flush=True)
    if any("failed" in each for each in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
