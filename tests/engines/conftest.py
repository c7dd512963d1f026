"""What the tests of the engines share."""

from __future__ import annotations

import pytest

from fivebyfive.datasets.splits import Dataset
from fivebyfive.kernels import products


@pytest.fixture
def by_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every linear layer counts as large, and MKL as slow, whatever the processor."""
    monkeypatch.setattr(products, "LEAST_WEIGHTS", 1)
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)


@pytest.fixture
def data(tiny: Dataset) -> Dataset:
    """58 images: batches of four leave a smaller one over."""
    return Dataset("tiny", tiny.train.head(58), tiny.test, tiny.classes, "made up", {})
