"""How fast AlexNet trains on this processor, against the ways people train it in PyTorch.

    python benchmarks/alexnet.py --rounds 5
    python benchmarks/alexnet.py --rounds 3 --more     # three more, added to those that are kept
    python benchmarks/alexnet.py --scaling --rounds 5  # processes × threads: 1×1, 1×2, 2×1

A batch is 128 images of 1×224×224, made from the stored 28×28 ones within the timed step. Told are
images trained on in a second, over a few steps after the first ones, which warm up. Beside them,
in the same rounds, stands what the processor's matrix products reach at best: the share of it that
a contender reaches is its images/s times the 5.561 GFLOP that training on an image takes. Needs
Pillow, and the full Fashion-MNIST.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn

import fivebyfive as fbf
from contenders import OneByOne, network
from fivebyfive.datasets.pixels import Pixels
from fivebyfive.engines.allocator import keep_large_buffers
from fivebyfive.engines.interface import Epoch, Metrics
from fivebyfive.engines.process_group import init_process_group
from fivebyfive.lib.randomness import epoch_order
from fivebyfive.verbs import recipes
from fivebyfive.verbs.train import ready
from harness import RESULTS, compare, fma_peak, machine, ratios, save, spread

RECIPE = recipes.get("alexnet-d2l")
#: The first two steps are slower: memory is taken, and oneDNN compiles what it needs.
WARM, TIMED = 2, 3

#: One training step; gives the loss, which the book's loop reads at every step, too.
Step = Callable[[], float]
Batches = Iterator[tuple[Tensor, Tensor]]


def textbook() -> Step:
    """The book's loop over a DataLoader that opens and resizes image by image, 4 workers."""
    data = OneByOne(fbf.datasets.load(RECIPE.dataset).train, RECIPE)
    loader = torch.utils.data.DataLoader(data, RECIPE.batch_size, shuffle=True, num_workers=4)
    return loop(network(RECIPE), iter(loader))


def plain() -> Step:
    """The book's steps on images that stay in memory as bytes, resized a batch at a time."""
    return loop(network(RECIPE), resident())


def eager() -> Step:
    """The same with large buffers kept between steps: the strongest in the usual layout."""
    keep_large_buffers()
    return plain()


def channels_last(bf16: bool = False) -> Step:
    """Strong eager with the weights and images laid out channels last."""
    keep_large_buffers()
    net = network(RECIPE).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return loop(net, resident(torch.channels_last), bf16)


def bf16() -> Step:
    """Strong eager under bf16 autocast."""
    keep_large_buffers()
    return loop(network(RECIPE), resident(), bf16=True)


def ours(precision: str = "fp32") -> Step:
    """The engine that ``fivebyfive train`` takes here, in one process or several."""
    images = (WARM + TIMED) * RECIPE.batch_size
    session = ready(
        RECIPE.name, device="cpu", precision=precision, limit=images, processes=init_process_group()
    )
    epoch = Epoch(1, epoch_order(RECIPE.seed, 1, images), RECIPE.batch_size)
    steps = iter(range(epoch.steps))

    def step() -> float:
        first = next(steps)
        return session.engine.train(epoch, first, first + 1, Metrics())[0].mean_loss

    return step


CONTENDERS: dict[str, Callable[[], Step]] = {
    "textbook": textbook,
    "plain": plain,
    "eager": eager,
    "channels_last": channels_last,
    "bf16": bf16,
    "bf16_channels_last": lambda: channels_last(bf16=True),
    "ours": ours,
    "ours_bf16": lambda: ours("bf16"),
}


def resident(layout: torch.memory_format = torch.contiguous_format) -> Batches:
    """Shuffled batches of images kept as bytes."""
    data, pixels = fbf.datasets.load(RECIPE.dataset).train, Pixels(RECIPE.resize)
    for indices in torch.randperm(len(data)).split(RECIPE.batch_size):
        yield pixels(data.images[indices]).contiguous(memory_format=layout), data.labels[indices]


def loop(net: nn.Module, batches: Batches, bf16: bool = False) -> Step:
    """The book's training loop."""
    optimizer = torch.optim.SGD(net.parameters(), lr=RECIPE.lr)

    def step() -> float:
        x, y = next(batches)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def timed(step: Step) -> dict[str, float]:
    """The figures of one contender, in images/s and MB."""
    for _ in range(WARM):
        step()
    begin = time.perf_counter()
    for _ in range(TIMED):
        loss = step()
    seconds = time.perf_counter() - begin
    return {
        "images_s": TIMED * RECIPE.batch_size / seconds,
        "loss": loss,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def products() -> dict[str, float]:
    """The best GFLOP/s of large matrix products, over shapes, libraries and repetitions.

    PyTorch multiplies float32 with MKL, which is slow on some processors; the same product by
    oneDNN counts, too.
    """
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        best = 0.0
        for m, n, k in ((4096, 4096, 4096), (2048, 2048, 8192), (16384, 1024, 2048)):
            a, b = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
            for multiply in 4 * (F.linear, by_onednn):
                begin = time.perf_counter()
                multiply(a, b)
                best = max(best, 2e-9 * m * n * k / (time.perf_counter() - begin))
        found[f"{name}_gflops"] = best
    return found


def by_onednn(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return product


def scaling(processes: int, threads: int, name: str) -> dict[str, float]:
    """Ours in so many processes with so many threads each; the first one's figures."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [sys.executable, "-m", *torchrun, __file__, "--only", name],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


SCALING = {
    f"{name}_{processes}x{threads}": (processes, threads, name)
    for name in ("ours", "ours_bf16")
    for processes, threads in ((1, 1), (1, 2), (2, 1))
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--more", action="store_true", help="add rounds to those that are kept")
    parser.add_argument("--scaling", action="store_true", help="over processes and threads instead")
    parser.add_argument("--contenders", nargs="+", help="else all there are")
    parser.add_argument("--only", help="run one, once, in this process")
    options = parser.parse_args()
    if options.only:
        figures, processes = alone(options.only), init_process_group()
        if processes.is_main:
            print(json.dumps(figures))
        if processes.size > 1:
            processes.exchange(None)
            processes.leave(0)
        return
    everyone = list(SCALING) if options.scaling else ["products", *CONTENDERS]
    results = compare(__file__, options.contenders or everyone, options.rounds, [])
    name = "alexnet-scaling" if options.scaling else "alexnet"
    about = {**machine(), "recipe": RECIPE.name, "warm": WARM, "timed": TIMED}
    about["gflop_an_image"] = fbf.layers(RECIPE.network).flops_training / 1e9
    about["fma_peak_gflops"] = fma_peak(about["threads"])
    if options.more:
        kept = json.loads((RESULTS / f"{name}.json").read_text())["results"]
        results = {key: kept[key] + rounds for key, rounds in results.items()}
    print(", ".join(f"{key}: {value}" for key, value in about.items()))
    table(results, about["gflop_an_image"])
    print(f"raw figures: {save(name, {'about': about, 'results': results})}")


def alone(name: str) -> dict[str, float]:
    if name == "products":
        return products()
    return scaling(*SCALING[name]) if name in SCALING else timed(CONTENDERS[name]())


def table(results: dict[str, list[dict[str, Any]]], gflop: float) -> None:
    """Median (lowest–highest), the ratio to plain round by round, and the share of the peak."""
    peaks = results.get("products")
    speeds = {
        name: [each["images_s"] for each in rounds]
        for name, rounds in results.items()
        if name != "products"
    }
    for name, speed in speeds.items():
        line = f"{name:20}{spread(speed):>24} images/s"
        if "plain" in speeds:
            line += f", {spread(ratios(speed, speeds['plain']))} times plain"
        if peaks:
            kind = "bf16" if "bf16" in name else "fp32"
            peak = [each[f"{kind}_gflops"] for each in peaks]
            share = [100 * s * gflop for s in speed]
            line += f", {spread(ratios(share, peak))} % of the {kind} peak, {spread(peak)} GFLOP/s"
        print(line)


if __name__ == "__main__":
    main()
