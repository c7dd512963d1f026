"""What is drawn privately is what PyTorch draws with the same seed, and moves nothing else."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fivebyfive.lib.private_draws import OtherGenerators, PrivateDraws, active

X = torch.linspace(-1, 1, 128).view(8, 16)
HEADS = X.view(1, 4, 4, 8)


def lstm() -> Tensor:
    layer = nn.LSTM(16, 8, num_layers=2, dropout=0.5)
    return layer(X.view(2, 4, 16))[0]


def attention() -> Tensor:
    layer = nn.MultiheadAttention(16, 2, dropout=0.3, batch_first=True)
    return layer(X.view(2, 4, 16), X.view(2, 4, 16), X.view(2, 4, 16))[0]


DRAWS: dict[str, Callable[[], Tensor]] = {
    "rand": lambda: torch.rand(20),
    "randn": lambda: torch.randn(20),
    "randint": lambda: torch.randint(9, (20,)),
    "randint from": lambda: torch.randint(3, 9, (20,)),
    "randperm": lambda: torch.randperm(30),
    "rand_like": lambda: torch.rand_like(X),
    "randn_like": lambda: torch.randn_like(X, dtype=torch.float64),
    "randint_like": lambda: torch.randint_like(X, 7),
    "randint_like from": lambda: torch.randint_like(X, 2, 7),
    "normal": lambda: torch.normal(X, 1.0),
    "bernoulli": lambda: torch.bernoulli(X.abs()),
    "multinomial": lambda: torch.multinomial(torch.ones(9), 4),
    "poisson": lambda: torch.poisson(X.abs()),
    "uniform_": lambda: torch.empty(20).uniform_(2, 3),
    "exponential_": lambda: torch.empty(20).exponential_(),
    "dropout": lambda: F.dropout(X, 0.4),
    "dropout2d": lambda: F.dropout2d(X.view(2, 4, 4, 4), 0.4),
    "alpha_dropout": lambda: F.alpha_dropout(X, 0.4, training=True),
    "feature_alpha_dropout": lambda: F.feature_alpha_dropout(X.view(2, 4, 16), 0.4, training=True),
    "rrelu": lambda: F.rrelu(X, training=True),
    "gumbel_softmax": lambda: F.gumbel_softmax(X),
    "attention": lambda: F.scaled_dot_product_attention(HEADS, HEADS, HEADS, dropout_p=0.3),
    "fractional pooling": lambda: F.fractional_max_pool2d(X.view(1, 1, 8, 16), 2, output_size=3),
    "Linear": lambda: nn.Linear(8, 5).weight,
    "Conv2d": lambda: nn.Conv2d(2, 3, 5).weight,
    "Embedding": lambda: nn.Embedding(4, 5).weight,
    "xavier": lambda: nn.init.xavier_uniform_(torch.empty(6, 7)),
    "orthogonal": lambda: nn.init.orthogonal_(torch.empty(6, 7)),
    "trunc_normal": lambda: nn.init.trunc_normal_(torch.empty(30)),
    "LSTM": lstm,
    "MultiheadAttention": attention,
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_numbers_are_those_of_the_shared_generator(draw: Callable[[], Tensor]) -> None:
    torch.manual_seed(5)
    expected = draw()
    torch.manual_seed(99)
    before = torch.get_rng_state()
    with PrivateDraws(5) as draws:
        drawn = draw()
    assert torch.equal(drawn, expected)
    assert torch.equal(torch.get_rng_state(), before)
    assert draws.drew
    assert not draws.shared


def test_a_generator_of_the_callers_stays_the_callers() -> None:
    expected = torch.rand(4, generator=torch.Generator().manual_seed(3))
    with PrivateDraws(5) as draws:
        drawn = torch.rand(4, generator=torch.Generator().manual_seed(3))
        linear = F.linear(X, X)
    assert torch.equal(drawn, expected)
    assert torch.equal(linear, F.linear(X, X))
    assert not draws.drew


def test_attention_without_dropout_draws_nothing() -> None:
    with PrivateDraws(5) as draws:
        F.scaled_dot_product_attention(HEADS, HEADS, HEADS)
    assert not draws.drew


def test_what_a_checkpoint_draws_twice_is_the_same_both_times() -> None:
    x = torch.ones(1000, requires_grad=True)
    with PrivateDraws(5) as draws:
        out = checkpoint(lambda x: F.dropout(x, 0.5), x, use_reentrant=False)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())  # both are the mask, times 2
    assert draws.shared


def test_other_threads_draw_as_ever() -> None:
    torch.manual_seed(1)
    expected, found = torch.rand(5), []
    torch.manual_seed(1)
    with PrivateDraws(5):
        assert active() == 1
        thread = threading.Thread(target=lambda: found.append((torch.rand(5), active())))
        thread.start()
        thread.join()
    ((drawn, others),) = found
    assert torch.equal(drawn, expected)
    assert others == active() == 0


def test_on_the_meta_device_nothing_is_drawn() -> None:
    before = torch.get_rng_state()
    with PrivateDraws(5) as draws, torch.device("meta"):
        assert nn.Dropout()(nn.Linear(3, 4)(torch.rand(2, 3))).shape == (2, 4)
    assert not draws.drew
    assert torch.equal(torch.get_rng_state(), before)


class Own(nn.Module):
    """Code of a user's."""


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: random.gauss(0, 1)])
def test_pythons_and_numpys_generators_are_watched(draw: Callable[[], float]) -> None:
    watched = OtherGenerators(Own())
    torch.rand(3)
    assert not watched.moved()
    drawn = draw()
    assert watched.moved()
    watched.put_back()
    assert not watched.moved()
    assert draw() == drawn


def test_pytorchs_own_layers_are_not_asked_but_with_hooks() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout())
    unwatched = OtherGenerators(layers)
    layers[0].register_forward_hook(lambda *_: None)
    watched = OtherGenerators(layers)
    random.random()
    assert not unwatched.moved()
    assert watched.moved()
