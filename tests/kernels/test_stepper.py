"""The whole step: the same losses as float64, at any number of threads."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from fivebyfive import networks
from fivebyfive.kernels.accelerate import Fused, accelerate
from fivebyfive.kernels.stepper import Stepper, StepSums
from fivebyfive.optimizers import OPTIMIZERS

SHAPE = (1, 28, 28)
TABLE = torch.arange(256) / 255


def learnable(count, classes=10):
    """Images whose class shows, so that a loss comes down."""
    generator = torch.Generator().manual_seed(7)
    labels = torch.randint(0, classes, (count,), generator=generator)
    patterns = torch.rand(classes, *SHAPE, generator=generator)
    noise = torch.rand(count, *SHAPE, generator=generator)
    return ((patterns[labels] + noise) * 127).to(torch.uint8), labels


def make(name, rate=0.5):
    torch.manual_seed(3)
    network = networks.build(name)
    if name == "lenet":
        for parameter in network.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        return network, torch.optim.SGD(network.parameters(), lr=rate)
    return network, torch.optim.Adam(network.parameters(), lr=1e-4)


def stepping(network, optimizer):
    """A stepper that takes the optimizer's steps."""
    rule = OPTIMIZERS[type(optimizer).__name__.lower()].rule
    return Stepper(
        Fused(network).analyse(torch.empty(2, *SHAPE)).whole, SHAPE, TABLE, optimizer, rule
    )


@pytest.mark.parametrize("name", ["lenet", "convnet"])
def test_steps_of_any_size_have_the_losses_of_float64(name):
    # How the named recipes keep to float64 over 200 steps is tested with the engine.
    images, labels = learnable(640)
    network, optimizer = make(name)
    exact = copy.deepcopy(network).double()
    settings = {key: value for key, value in optimizer.defaults.items() if key in ("lr", "betas")}
    reference = type(optimizer)(exact.parameters(), **settings)
    stepper = stepping(network, optimizer)
    generator = torch.Generator().manual_seed(1)
    for size in (16, 9, 1, 17, 32, 33, 96, 100) * 4:
        order = torch.randperm(len(images), generator=generator)[:size]
        sums = StepSums()
        stepper.train(images, labels, order, sums)
        reference.zero_grad()
        scores = exact(TABLE.double()[images[order].long()])
        loss = F.cross_entropy(scores, labels[order])
        loss.backward()
        reference.step()
        assert abs(sums.loss / size - loss.item()) < 1e-5 * loss.item(), size


@pytest.mark.parametrize("name", ["lenet", "convnet"])
def test_any_number_of_threads_gives_the_same_bits(isa, name, monkeypatch):
    images, labels = learnable(160)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        network, optimizer = make(name)
        stepper = stepping(network, optimizer)
        sums = StepSums()
        for first in range(0, 160, 70):
            stepper.train(images, labels, torch.arange(160)[first : first + 70], sums)
        stepper.evaluate(images, labels, sums)
        accelerate(network)(images / 255).sum().backward()
        results.append(
            (sums.loss, sums.correct, [(p.detach(), p.grad) for p in network.parameters()])
        )
    first, *others = results
    for other in others:
        assert other[:2] == first[:2]
        for (a, grad), (b, other_grad) in zip(first[2], other[2], strict=True):
            assert torch.equal(a, b)
            assert torch.equal(grad, other_grad)


@pytest.mark.parametrize("count", [1, 17, 96])
@pytest.mark.parametrize("name", ["lenet", "convnet"])
def test_losses_and_right_answers_are_pytorchs(isa, name, count, tolerances):
    images, labels = learnable(count)
    network, optimizer = make(name)
    with torch.no_grad():
        scores = copy.deepcopy(network).double()(TABLE.double()[images.long()])
    loss = F.cross_entropy(scores, labels, reduction="sum").item()
    correct = int((scores.argmax(1) == labels).sum())
    stepper = stepping(network, optimizer)
    for given in (images, images / 255):
        sums = StepSums()
        stepper.evaluate(given, labels, sums)
        assert sums.loss == pytest.approx(loss, rel=tolerances.of_sum(count * 784))
        assert sums.correct == correct
        assert 0 < sums.gather_seconds < sums.seconds


def test_an_optimizers_own_step_can_go_on_where_the_stepper_left_off():
    images, labels = learnable(32)
    order = torch.arange(32)
    (one, first), (two, second) = make("convnet"), make("convnet")
    stepper = stepping(one, first)
    for _ in range(3):
        stepper.train(images, labels, order, StepSums())
    for _ in range(4):
        second.zero_grad()
        F.nll_loss(two(images / 255), labels).backward()
        second.step()
    first.zero_grad()
    F.nll_loss(one(images / 255), labels).backward()
    first.step()
    assert first.state[one.fc1.weight]["step"] == 4
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["lenet", "convnet"])
def test_a_checkpoint_loaded_in_between_is_followed(name):
    images, labels = learnable(32)
    order = torch.arange(32)
    network, optimizer = make(name)
    stepper = stepping(network, optimizer)
    stepper.train(images, labels, order, StepSums())
    saved = copy.deepcopy((network.state_dict(), optimizer.state_dict()))
    stepper.train(images, labels, order, StepSums())
    expected = copy.deepcopy(network.state_dict())
    network.load_state_dict(saved[0], assign=True)
    optimizer.param_groups[0]["params"] = list(network.parameters())
    optimizer.load_state_dict(saved[1])
    other = stepping(network, optimizer)
    other.train(images, labels, order, StepSums())
    assert all(torch.equal(a, expected[key]) for key, a in network.state_dict().items())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.data = saved[0][next(iter(saved[0]))].new_zeros(parameter.shape)
    optimizer.load_state_dict(saved[1])
    other.train(images, labels, order, sums := StepSums())
    assert sums.loss == pytest.approx(32 * math.log(10), rel=1e-5)
    assert network.get_parameter(next(reversed(saved[0]))).any()


def test_frozen_parameters_stay(isa):
    images, labels = learnable(20)
    network, _ = make("lenet")
    network[0].requires_grad_(False)
    network[9].weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    trained = [p for p in network.parameters() if p.requires_grad]
    stepper = stepping(network, torch.optim.SGD(trained, lr=0.5))
    stepper.train(images, labels, torch.arange(20), StepSums())
    changed = {key for key, value in network.state_dict().items() if not value.equal(before[key])}
    assert changed == before.keys() - {"0.weight", "0.bias", "9.weight"}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_diverging_run_shows_nan(isa, bad):
    images, labels = learnable(40)
    network, optimizer = make("convnet")
    with torch.no_grad():
        network.conv1.weight[0, 0, 2, 2] = bad
    expected = F.nll_loss(copy.deepcopy(network)(images / 255), labels).item()
    stepper = stepping(network, optimizer)
    sums = StepSums()
    stepper.train(images, labels, torch.arange(40), sums)
    assert math.isnan(expected)
    assert math.isnan(sums.loss)
    assert network.fc1.weight.isnan().any()
