"""The kernels' tests run for every instruction set that this processor has."""

import pytest

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
