"""Memory that really runs out: training in a process whose address space is limited."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("limits of the address space hold on Linux", allow_module_level=True)

#: Trains three steps of 64 and tests 64 images; prints what became of it. A warm-up on a copy
#: starts the threads and fills the caches, so that the limit leaves the room named for the run.
CHILD = """
import copy, hashlib, json, resource, sys
from pathlib import Path
import torch
from torch import nn
from fivebyfive import engines
from fivebyfive.datasets.splits import Split
from fivebyfive.engines.allocator import release
from fivebyfive.engines.work import Epoch, Tally
from fivebyfive.errors import OutOfMemoryError
from fivebyfive.recipes import Recipe

kind, micro_batch, room, side = sys.argv[1], int(sys.argv[2]) or None, int(sys.argv[3]), int(sys.argv[4])
torch.manual_seed(0)
torch.set_num_threads(2)
images = torch.randint(0, 256, (192, 1, 28, 28), dtype=torch.uint8)
train, test = Split(images, torch.arange(192) % 3), Split(images[:64], torch.arange(64) % 3)
net = nn.Sequential(
    nn.Conv2d(1, 48, 5, padding=2), nn.ReLU(), nn.Dropout(), nn.Conv2d(48, 48, 3, padding=1), nn.ReLU(),
    nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(768, 3),
) if kind != "kernels" else nn.Sequential(
    nn.Conv2d(1, 64, 5, padding=2), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
    nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(64 * (side // 2) ** 2, 3),
)
recipe = Recipe(name="t", network="t", batch_size=64, lr=0.01, resize=side, optimizer="adam")
device = torch.device("cpu")
name = "cpu" if kind == "kernels" else kind
def make(net, micro_batch):
    return engines.make(name, net, recipe, train, test, device, micro_batch)

warm = make(copy.deepcopy(net), 1)
warm.train(Epoch(1, torch.arange(4), 64), 0, 1, Tally())
engine = make(net, micro_batch)
del warm
release(device)
if room:
    status = Path("/proc/self/status").read_text()
    size = 1024 * int(status.split("VmSize:")[1].split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (size + (room << 20), -1))
try:
    tally, _ = engine.train(Epoch(1, torch.arange(192), 64), 0, 3, Tally())
    tested = engine.evaluate()
except OutOfMemoryError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
weights = torch.cat([p.detach().reshape(-1) for p in net.parameters()]).numpy()
print(json.dumps({
    "micro_batch": engine.micro_batch, "loss": tally.loss, "tested": tested.correct,
    "weights": hashlib.sha256(weights.tobytes()).hexdigest(),
    "news": [notice.message for notice in engine.news()],
}))
"""


def child(kind: str, micro_batch: int = 0, room: int = 0, side: int = 64) -> dict[str, Any]:
    """What a training with ``room`` MiB more than it has at its start (0: no limit) comes to."""
    command = [sys.executable, "-c", CHILD, kind, str(micro_batch), str(room), str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
