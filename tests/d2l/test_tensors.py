from __future__ import annotations

import torch

from fivebyfive import d2l


def test_short_names_do_what_tensors_do():
    x = torch.arange(6.0, requires_grad=True)
    matrix = d2l.reshape(x, (2, 3))
    assert d2l.size(matrix) == 6
    assert d2l.transpose(matrix).shape == (3, 2)
    assert d2l.reduce_sum(matrix, dim=0).tolist() == [3, 5, 7]
    assert d2l.reduce_mean(x) == 2.5
    assert d2l.argmax(matrix, axis=1).tolist() == [2, 2]
    assert d2l.astype(x, torch.int32).dtype == d2l.int32
    assert d2l.to(x, torch.float64).dtype == torch.float64
    assert d2l.numpy(x).tolist() == [0, 1, 2, 3, 4, 5]
    assert d2l.concat([x, x]).shape == (12,)
