from __future__ import annotations

import pytest
from torch import nn

from fivebyfive.lib.modes import in_mode


@pytest.mark.parametrize("training", [True, False])
def test_every_module_has_its_own_mode_back_even_after_a_failure(training):
    network = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(1)))
    network[1].eval()
    before = [module.training for module in network.modules()]

    def fail() -> None:
        with in_mode(network, training=training):
            assert all(module.training == training for module in network.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [module.training for module in network.modules()] == before
