"""Backward in the ways that autograd allows: each gives the gradients that PyTorch gives."""

import pytest
import torch
from torch import nn

from fivebyfive.kernels.accelerate import accelerate

from .comparing import accelerated, block


def test_a_non_contiguous_gradient():
    x = torch.rand(4, 2, 6, 6)
    network = accelerate(block(nn.Sigmoid()))
    network(x).sum().backward()  # an expanded gradient
    found = network[0].weight.grad.clone()
    network.zero_grad()
    network.forward(x).sum().backward()
    assert torch.allclose(found, network[0].weight.grad, rtol=1e-4)


def test_many_gradients_at_once(passes):
    network = block(nn.Sigmoid(), nn.AvgPool2d(2))
    x, many = torch.rand(2, 2, 6, 6), torch.randn(4, 2, 3, 2, 2)
    found, expected = (
        torch.autograd.grad(each(x), list(each.parameters()), many, is_grads_batched=True)
        for each in (accelerated(network), network)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert passes


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.Tanh()])
def test_double_backward(activation):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), activation, nn.Flatten(), nn.Linear(8, 2))
    x = torch.rand(3, 1, 4, 4, requires_grad=True)

    def penalty(net):
        (grad,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), [x, *net.parameters()], allow_unused=True)

    for found, expected in zip(penalty(accelerated(network)), penalty(network), strict=True):
        if expected is None:
            assert found is None or not found.any()
        else:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_backward_twice_and_accumulated(passes):
    network = block(nn.Sigmoid(), nn.AvgPool2d(2))
    accelerate(network)
    a, b = torch.rand(3, 2, 9, 9), torch.rand(18, 2, 9, 9)
    loss = network(a).square().sum() + network(b).square().sum()  # two forwards before a backward
    loss.backward(retain_graph=True)
    loss.backward()
    found = network[0].weight.grad.clone()
    network.zero_grad()
    for _ in range(2):
        (network.forward(a).square().sum() + network.forward(b).square().sum()).backward()
    torch.testing.assert_close(found, network[0].weight.grad, rtol=1e-4, atol=1e-5)
    assert len(passes) == 2


def test_a_parameter_changed_before_backward_is_an_error():
    network = block()
    out = accelerate(network)(torch.rand(1, 2, 5, 5)).sum()
    with torch.no_grad():
        network[0].weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


@pytest.mark.parametrize("frozen", [["0.weight"], ["0.bias"], ["0.weight", "0.bias"], ["3.weight"]])
def test_frozen_parameters_and_inputs(frozen):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(18, 4))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)
    x = torch.rand(3, 1, 5, 5)  # needs no gradient
    accelerate(network)(x).sum().backward()
    found = {n: p.grad for n, p in network.named_parameters()}
    network.zero_grad()
    network.forward(x).sum().backward()
    for name, parameter in network.named_parameters():
        assert (found[name] is None) == (name in frozen)
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first", [nn.Linear(50, 12), nn.Conv2d(2, 3, 3)], ids=["linear", "conv"])
@pytest.mark.parametrize("changed", range(5))
@pytest.mark.parametrize("input_too", [False, True])
def test_what_may_be_changed_before_backward_is_what_pytorch_allows(first, changed, input_too):
    layers = [nn.Flatten()] if isinstance(first, nn.Linear) else []
    width = 12 if layers else 27
    network = nn.Sequential(*layers, first, nn.Tanh(), nn.Flatten(), nn.Linear(width, 2))
    outcomes = []
    for each in (accelerated(network), network):
        x = torch.rand(3, 2, 5, 5, requires_grad=input_too)
        out = each(x)
        with torch.no_grad():
            [x, *each.parameters()][changed].mul_(1)
        try:
            out.sum().backward()
        except RuntimeError as error:
            outcomes.append("modified by an inplace operation" in str(error))
        else:
            outcomes.append(False)
    assert outcomes[0] == outcomes[1]
