"""The kernels flush numbers too small for full precision, and only they."""

import torch
from torch import nn

from fivebyfive.kernels.accelerate import accelerate

TINY = 1e-40


def test_they_count_as_zero_in_the_kernels_and_as_before_outside(isa):
    layer = nn.Linear(4, 3, bias=False)
    nn.init.constant_(layer.weight, TINY)
    network = accelerate(nn.Sequential(layer))
    x = torch.full((40, 4), 0.5)
    with torch.no_grad():
        plain = layer(x)
        assert (plain > 0).all()
        assert (network(x) == 0).all()
        assert torch.equal(layer(x), plain)
        assert float(torch.tensor(TINY) * 0.5) > 0
