"""Memory that really runs out: training in a process whose address space is limited."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fivebyfive import engines
from fivebyfive.datasets.splits import Split
from fivebyfive.engines.interface import Epoch, Job, Metrics
from fivebyfive.kernels.library import report
from fivebyfive.lib.errors import OutOfMemoryError
from fivebyfive.recipes import Recipe

if sys.platform != "linux":
    pytest.skip("limits of the address space hold on Linux", allow_module_level=True)

#: Trains three steps of 64 images and tests 64; prints what became of it, and how many images were
#: computed at a time in each step. A step with a copy, on one image, starts threads and fills
#: caches first, so that the limit leaves the room it names. Without oneDNN: it makes code for each
#: shape, and jumps to address 0 where there is no memory left for the code.
CHILD = """
import copy, hashlib, json, resource, sys
from pathlib import Path
import torch
from torch import nn
from fivebyfive import engines
from fivebyfive.datasets.splits import Split
from fivebyfive.engines.allocator import release
from fivebyfive.engines.interface import Epoch, Job, Metrics
from fivebyfive.recipes import Recipe

kind, room, side, *at_a_time = sys.argv[1], *map(int, sys.argv[2:])
torch.backends.mkldnn.enabled = False
torch.manual_seed(0)
torch.set_num_threads(2)
images = torch.randint(0, 256, (192, 1, 28, 28), dtype=torch.uint8)
train, test = Split(images, torch.arange(192) % 3), Split(images[:64], torch.arange(64) % 3)
net = nn.Sequential(
    nn.Conv2d(1, 48, 5, padding=2), nn.ReLU(), nn.Dropout(), nn.Conv2d(48, 48, 3, padding=1),
    nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(768, 3),
) if kind != "kernels" else nn.Sequential(
    nn.Conv2d(1, 64, 5, padding=2), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
    nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(64 * (side // 2) ** 2, 3),
)
recipe = Recipe(name="t", network="t", batch_size=64, lr=0.01, resize=side, optimizer="adam")
device = torch.device("cpu")
name = "cpu" if kind == "kernels" else kind
def make(net, micro_batch):
    return engines.make(name, Job(net, recipe, train, test, device, micro_batch))

warm = make(copy.deepcopy(net), 1)
warm.train(Epoch(1, torch.arange(1), 64), 0, 1, Metrics())
engine = make(net, at_a_time[0] if at_a_time else None)
del warm
release(device)
if room:
    status = Path("/proc/self/status").read_text()
    size = 1024 * int(status.split("VmSize:")[1].split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (size + (room << 20), -1))
tally, taken = Metrics(), []
for step in range(3):
    engine.micro_batch = at_a_time[step] if at_a_time else engine.micro_batch
    tally, _ = engine.train(Epoch(1, torch.arange(192), 64), step, step + 1, tally)
    taken.append(engine.micro_batch)
tested = engine.evaluate()
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
weights = torch.cat([p.detach().reshape(-1) for p in net.parameters()]).numpy()
print(json.dumps({
    "at_a_time": taken, "loss": tally.loss, "tested": tested.correct,
    "weights": hashlib.sha256(weights.tobytes()).hexdigest(),
    "news": [notice.message for notice in engine.notices()],
}))
"""


def child(kind: str, *at_a_time: int, room: int = 0, side: int = 64) -> dict[str, Any]:
    """What a training with ``room`` MiB more than it has at its start (0: no limit) comes to.

    ``at_a_time`` says how many images to compute at a time, step by step.
    """
    numbers = (room, side, *at_a_time)
    command = [sys.executable, "-c", CHILD, kind, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.faults  # tests/engines/test_out_of_memory.py has the short versions
@pytest.mark.parametrize("kind", ["eager", "cpu", "kernels"])
def test_a_run_goes_on_as_if_started_so(kind: str) -> None:
    if kind != "eager" and not report().active:
        pytest.skip("the kernels aren't built here")
    # MiB that are enough for some images, but not for 64, and the side of an image.
    room, side = {"eager": (100, 64), "cpu": (100, 64), "kernels": (60, 32)}[kind]
    short = child(kind, room=room, side=side)
    assert short["at_a_time"][0] < 64
    told = "out of memory at 64 images at a time: from here on"
    assert len([message for message in short["news"] if message.startswith(told)]) == 1
    # Where the free memory lies in pieces, a later step may have to be split once more.
    started = child(kind, *short["at_a_time"], side=side)
    assert started["news"] == []
    assert short["weights"] == started["weights"]
    assert short["loss"] == started["loss"]
    assert short["tested"] == started["tested"]
    whole = child(kind, side=side)
    assert whole["at_a_time"] == [64] * 3
    # Adam's first steps make much of a small gradient's rounding.
    assert whole["loss"] == pytest.approx(short["loss"], rel=5e-3)


class Greedy(nn.Flatten):
    """Asks in training for more than an address space holds, however large the batch."""

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            torch.empty(1 << 50)
        return super().forward(images)


def test_one_image_that_doesnt_fit_is_told() -> None:
    split = Split(torch.zeros(8, 1, 28, 28, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64))
    network = nn.Sequential(Greedy(), nn.Linear(784, 3))
    recipe = Recipe(name="t", network="t", batch_size=8, lr=0.1)
    engine = engines.make("eager", Job(network, recipe, split, split, torch.device("cpu")))
    with pytest.raises(OutOfMemoryError) as caught:
        engine.train(Epoch(1, torch.arange(8), 8), 0, 1, Metrics())
    message = str(caught.value)
    assert message.startswith("out of memory on cpu even with one image at a time")
    assert "4.5e+03 TB more were asked for" in message
    assert "TB are missing" in message
