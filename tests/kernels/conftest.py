"""The kernels' tests run for every instruction set that this processor has."""

import pytest

from fivebyfive.kernels.fused_chain import Pass
from fivebyfive.kernels.library import VARIABLE, usable

try:
    SETS = list(usable())
except OSError as error:
    SETS = []
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture(params=SETS)
def isa(request, monkeypatch):
    monkeypatch.setenv(VARIABLE, request.param)
    return request.param


@pytest.fixture
def passes(monkeypatch):
    """One entry for every pass the kernels made."""
    made = []
    original = Pass.forward
    monkeypatch.setattr(Pass, "forward", lambda *a: made.append(a[0]) or original(*a))
    return made
