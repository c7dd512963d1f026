"""Running one operation forward and backward, in the kernels and as PyTorch does in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

#: What the kernels promise: the error beside the largest of the results.
PROMISE = 1e-5


def both(
    module: nn.Module,
    plain: Callable[..., Tensor],
    inputs: Sequence[Tensor | None],
    seed: int = 0,
) -> tuple[list[Tensor], list[Tensor]]:
    """Output and gradients at the inputs that want one: the kernels', and PyTorch's in float64."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        out_grad = torch.randn(plain(*inputs).shape, generator=generator)
    return _run(module, inputs, out_grad), _run(plain, [_double(t) for t in inputs], out_grad)


def _double(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().double().requires_grad_(tensor.requires_grad)


def _run(
    compute: Callable[..., Tensor], inputs: Sequence[Tensor | None], out_grad: Tensor
) -> list[Tensor]:
    out = compute(*inputs)
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    found = torch.autograd.grad(out, wanted, out_grad.to(out.dtype)) if wanted else ()
    return [out.detach(), *found]


def assert_close(found: Tensor, exact: Tensor, terms: int) -> None:
    """Within the promise of the largest result, or of what so many normal terms come to."""
    assert found.shape == exact.shape
    size = max(exact.abs().max().item(), math.sqrt(terms))
    assert (found.double() - exact).abs().max().item() < PROMISE * size


def spread(*shape: int, seed: int, last: bool = True) -> Tensor:
    """Normal numbers, as images with the channels last or first."""
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.to(memory_format=torch.channels_last) if last else values
