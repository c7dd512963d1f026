from __future__ import annotations

import pytest
import torch

from fivebyfive import networks, recipes
from fivebyfive.kernels.library import report
from fivebyfive.memory.demand import Kernels, Plain, of_engine

CPU = torch.device("cpu")
SHAPE = (1, 28, 28)
kernels = pytest.mark.skipif(report().active is None, reason="needs the compiled kernels")


def of(name: str, engine: str = "cpu", **changes):
    recipe = recipes.get(name).but(**changes)
    return of_engine(engine, networks.build(recipe.network), recipe, SHAPE, CPU)


@kernels
@pytest.mark.parametrize("name", ["lenet-d2l", "convnet-mnist"])
def test_the_kernels_answer_for_what_they_compute_whole(name):
    assert isinstance(of(name), Kernels)


@pytest.mark.parametrize("changes", [{"engine": "eager"}, {"precision": "bf16"}, {"resize": 28}])
def test_all_else_is_pytorchs(changes):
    assert isinstance(of("lenet-d2l", **changes), Plain)


@kernels
@pytest.mark.parametrize("engine", ["cpu", "eager"])
def test_more_images_need_more_and_parts_add_room_for_gradients(engine):
    demand = of("lenet-d2l", engine)
    needs = [demand.training(count)[0].total for count in (1, 32, 64, 512)]
    assert needs == sorted(set(needs))
    assert demand.training(32, again=True)[0].total > demand.training(32)[0].total
    assert demand.testing(1) <= demand.testing(500)


@pytest.mark.parametrize("count", [1, 16, 128])
def test_only_glibcs_heap_has_holes(count):
    network = networks.build("lenet")
    need, holes = Plain(network, SHAPE, bf16=False, heap=False).training(count)
    same, more = Plain(network, SHAPE, bf16=False, heap=True).training(count)
    assert need == same
    assert 0 == holes < more
