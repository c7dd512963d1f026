from __future__ import annotations

import math

import pytest

from fivebyfive.recipes import RECIPES
from fivebyfive.training.events import EpochDone, Speed
from fivebyfive.training.plateau import Plateau

LENET = RECIPES["lenet-d2l"]


def done(epoch: int, loss: float, acc: float) -> EpochDone:
    speed = Speed(1.0, 1.0, 0.0)
    return EpochDone(epoch, 10, loss, acc, loss, acc, round(acc * 10000), 10000, speed, 1.0, 1.0)


def test_speaks_up_once_and_again_on_leaving() -> None:
    plateau = Plateau(LENET, 10)
    first = plateau.notice(done(1, 2.303, 0.1))
    assert first is not None
    assert first.kind == "plateau"
    assert "ln 10 = 2.303" in first.message
    assert LENET.plateau in first.message
    assert plateau.notice(done(2, 2.30, 0.11)) is None
    left = plateau.notice(done(3, 1.4, 0.5))
    assert left is not None
    assert left.kind == "plateau-left"
    assert "after 2 epochs of guessing" in left.message
    assert plateau.notice(done(4, 1.0, 0.6)) is None


def test_a_network_of_ones_own_gets_general_advice() -> None:
    plateau = Plateau(LENET.but(network="x.py:Net"), 10)
    notice = plateau.notice(done(1, 2.3, 0.1))
    assert notice is not None
    assert "--lr" in notice.message
    assert notice.message.endswith("The training continues.")


@pytest.mark.parametrize("init", ["xavier", "default"])
def test_nothing_is_advised_that_is_done_already(init: str) -> None:
    notice = Plateau(LENET.but(lr=0.5, init=init), 10).notice(done(1, 2.3, 0.1))
    assert notice is not None
    assert ("--init xavier" in notice.message) == (init != "xavier")


def test_the_last_epoch_promises_nothing() -> None:
    notice = Plateau(LENET, 10).notice(done(10, 2.3, 0.1))
    assert notice is not None
    assert "goes on" not in notice.message


def test_a_single_class_is_no_plateau() -> None:
    assert Plateau(LENET, 1).notice(done(1, 0.0, 1.0)) is None


@pytest.mark.parametrize(("loss", "acc"), [(1.9, 0.1), (2.303, 0.2), (math.nan, 0.1), (0.5, 0.9)])
def test_is_quiet_elsewhere(loss: float, acc: float) -> None:
    assert Plateau(LENET, 10).notice(done(1, loss, acc)) is None
