from __future__ import annotations

import pytest

from fivebyfive.lib import errors
from fivebyfive.lib.errors import DivergedError, FiveByFiveError, UnknownNameError


def test_an_unknown_name_shows_the_nearest_and_all() -> None:
    with pytest.raises(UnknownNameError) as caught:
        raise UnknownNameError("network", "LeNt", ["lenet", "alexnet"], "A hint.")
    assert str(caught.value) == (
        "unknown network 'LeNt'. Did you mean 'lenet' or 'alexnet'? Known: alexnet, lenet. A hint."
    )


def test_a_name_far_from_all_gets_no_guess() -> None:
    assert str(UnknownNameError("network", "xyz", ["lenet"])) == (
        "unknown network 'xyz'. Known: lenet."
    )


def test_every_error_is_in_the_tree_and_has_a_status() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)]
    assert len(kinds) > 8
    assert all(issubclass(kind, FiveByFiveError) for kind in kinds)
    assert {kind.status for kind in kinds} == {1, 2}


def test_diverging_names_the_place_and_a_way_out() -> None:
    message = str(DivergedError(0.9, float("nan"), "in epoch 2, between steps 3 and 4"))
    assert "became nan in epoch 2, between steps 3 and 4" in message
    assert "--lr 0.09 instead of 0.9" in message
