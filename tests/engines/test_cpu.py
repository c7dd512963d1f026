"""The CPU engine computes what the eager engine computes."""

import copy
import subprocess
import sys

import pytest
import torch

from fivebyfive import networks, recipes
from fivebyfive.engines.cpu import Cpu
from fivebyfive.engines.eager import Eager
from fivebyfive.engines.work import Epoch, Tally
from fivebyfive.kernels.library import VARIABLE, report

CPU = torch.device("cpu")


def run(engine, network, recipe, data):
    made = engine(copy.deepcopy(network), recipe, data.train, data.test, CPU)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(1))
    epoch = Epoch(1, order, 16)
    tally, times = made.train(epoch, 0, 2, Tally())
    tally, _ = made.train(epoch, 2, epoch.steps, tally)
    assert times.data > 0
    assert times.compute > 0
    return tally, made.evaluate(), made.network.state_dict()


def agree(network, recipe, data):
    found, expected = (run(engine, network, recipe, data) for engine in (Cpu, Eager))
    for a, b in zip(found[:2], expected[:2], strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-4)
        assert (a.correct, a.count) == (b.correct, b.count)
    assert found[2].keys() == expected[2].keys()
    for name, value in found[2].items():
        torch.testing.assert_close(value, expected[2][name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["lenet-d2l", "convnet-mnist"])
def test_named_recipes(name, tiny):
    recipe = recipes.get(name)
    torch.manual_seed(0)
    agree(networks.build(recipe.network), recipe, tiny)


def test_resized_images(tiny):
    recipe = recipes.get("convnet-mnist").but(resize=32)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(4 * 14 * 14, 10), torch.nn.LogSoftmax(1),
    )  # fmt: skip
    agree(network, recipe, tiny)


def test_a_network_that_needs_pytorch_in_its_step(tiny):
    recipe = recipes.get("lenet-d2l").but(lr=0.05)
    network = networks.build("lenet")
    agree(torch.nn.Sequential(network, torch.nn.Dropout(0.2), torch.nn.LayerNorm(10)), recipe, tiny)


def test_hooks_see_every_step(tiny):
    recipe = recipes.get("lenet-d2l")
    network = networks.build("lenet")
    engine = Cpu(network, recipe, tiny.train, tiny.test, CPU)
    seen = []
    network[3].register_forward_hook(lambda *_: seen.append(1))
    engine.train(Epoch(1, torch.arange(60), 20), 0, 3, Tally())
    assert len(seen) == 3


def test_without_kernels(tiny, monkeypatch):
    monkeypatch.setenv(VARIABLE, "none")
    agree(networks.build("lenet"), recipes.get("lenet-d2l"), tiny)


def test_pytorch_takes_over_with_the_moments_that_are_there(tiny):
    """A hook that appears in the middle of a training with Adam changes nothing."""
    recipe = recipes.get("convnet-mnist").but(batch_size=16)
    torch.manual_seed(0)
    network = networks.build("convnet")
    losses = []
    for engine in (Eager, Cpu):
        made = engine(copy.deepcopy(network), recipe, tiny.train, tiny.test, CPU)
        epoch, tally = Epoch(1, torch.arange(60), 16), Tally()
        for step in range(epoch.steps):
            if step == 2:
                hook = made.network.conv1.register_forward_hook(lambda *_: None)
            if step == 3:
                hook.remove()
            tally, _ = made.train(epoch, step, step + 1, tally)
        losses.append(tally.loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_short_training_waits_for_no_compiler(tiny_folder, tmp_path):
    code = (
        "import sys\nimport fivebyfive as fbf\n"
        f"fbf.train('lenet', data={str(tiny_folder)!r}, epochs=1, device='cpu', engine='cpu',"
        f" run={str(tmp_path / 'r')!r}, watch='quiet')\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    if not report().active:
        pytest.skip("the kernels aren't built here")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
