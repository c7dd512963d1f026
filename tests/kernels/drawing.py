"""Blocks drawn by hypothesis, the numbers in them, and what a network gives forward and back."""

import copy

import torch
from hypothesis import strategies as st
from torch import nn

from fivebyfive.kernels.accelerate import accelerate

ACTIVATIONS = (None, nn.Sigmoid, nn.Tanh, nn.ReLU)


@st.composite
def blocks(draw):
    """A convolution block, its input's shape, and a seed for the numbers."""
    kernel = draw(st.integers(1, 11))
    padding = draw(st.integers(0, kernel - 1))
    pooling = draw(st.sampled_from((None, nn.AvgPool2d, nn.MaxPool2d)))
    pool, stride = draw(st.sampled_from(((2, 2), (3, 2), (3, 3), (2, 3))))
    least = max(1, (pool if pooling else 1) + kernel - 1 - 2 * padding)
    height, width = (draw(st.integers(least, least + 12)) for _ in range(2))
    inputs, outputs = draw(st.integers(1, 9)), draw(st.integers(1, 20))
    layers = [nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=draw(st.booleans()))]
    if activation := draw(st.sampled_from(ACTIVATIONS)):
        layers.append(activation())
    if pooling:
        layers.append(pooling(pool, stride))
    shape = (draw(st.integers(1, 40)), inputs, height, width)
    return nn.Sequential(*layers), shape, draw(st.integers(0, 2**31))


def ordinary(network, shape, seed):
    """Fill the network with normal numbers; give a normal input and gradient at the output.

    Of both signs, as in a training, and as large as keeps the sums near 1.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            normal = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(normal / parameter[0].numel() ** 0.5)
    x = torch.randn(shape, generator=generator)
    return x, torch.randn(network(x).shape, generator=generator)


def unrounded(network, shape, seed):
    """Fill the network with numbers that it sums without rounding; give such an input.

    All are multiples of powers of two: where maxima tie they tie in float64, too, and nothing lies
    on different sides of a kink. The input is positive, so that no gradient is the small difference
    of large sums.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 64 * max(1.0, parameter[0].numel() ** 0.5)
            whole = torch.randint(-256, 257, parameter.shape, generator=generator)
            parameter.copy_(whole / 2.0 ** round(torch.tensor(scale).log2().item() + 2))
    return torch.randint(0, 17, shape, generator=generator) / 8


def distance(a, b):
    """The largest difference, relative to the largest value of the reference ``b``."""
    return ((a.double() - b).abs().max() / b.abs().max().clamp(min=1e-30)).item()


def gradients(network, x, out_grad, dtype, *, accelerated=False):
    """Output, gradient at the input, and gradients of the parameters, computed in ``dtype``."""
    network = copy.deepcopy(network).to(dtype)
    if accelerated:
        accelerate(network)
    x = x.detach().to(dtype, copy=True).requires_grad_()
    out = network(x)
    out.backward(out_grad.to(dtype))
    return [out.detach(), x.grad, *(p.grad for p in network.parameters())]
