"""A chain of blocks as one step for PyTorch's autograd."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..lib import private_draws
from ..lib.torch_internals import being_watched, in_memory
from .blocks import Block, address, chain, empty, shapes
from .library import Images, kernels


class FusedChain(nn.Module):
    """A chain run by the kernels, or by PyTorch (``plain``) for inputs they don't take."""

    def __init__(self, blocks: Sequence[Block], plain: nn.Module) -> None:
        super().__init__()
        self.blocks = tuple(blocks)
        self.plain = plain
        self.spare: list[Tensor] = []  # a workspace nobody uses at the moment

    def forward(self, x: Tensor) -> Tensor:
        """Run the chain on a batch."""
        parameters = [p for block in self.blocks for p in block.parameters()]
        if not _takes(self.blocks, x, parameters):
            return self.plain(x)  # type: ignore[no-any-return]
        if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *parameters)):
            return _Chain.apply(self, x, *parameters)  # type: ignore[no-any-return, no-untyped-call]
        return Pass(self, x, parameters, keep=False).forward(x)


class Pass:
    """One forward through a chain and, if it comes, its backward.

    Holds on to a workspace, which goes back to the chain when the pass is forgotten: fresh memory
    for every step would cost as much as the computing.
    """

    def __init__(
        self, module: FusedChain, x: Tensor, parameters: Sequence[Tensor], keep: bool
    ) -> None:
        active = kernels()
        inputs = shapes(module.blocks, tuple(x.shape[1:]))
        assert active is not None
        assert inputs is not None
        self._kernels, self._module, self._keep = active, module, keep
        self._shapes, self._count = inputs, len(x)
        self._threads = torch.get_num_threads()
        described = self._describe(parameters, [None] * len(parameters))
        floats = active.workspace(ctypes.byref(described), len(x), keep, self._threads)
        try:
            spare = module.spare.pop()
        except IndexError:  # not asked before: another thread may take it in between
            spare = None
        self._workspace = empty(floats) if spare is None or len(spare) < floats else spare

    def __del__(self) -> None:
        if hasattr(self, "_workspace") and not self._module.spare:
            self._module.spare.append(self._workspace)

    def forward(self, x: Tensor) -> Tensor:
        """What the chain gives for ``x``."""
        x = x.detach().contiguous()
        out = empty(self._count, *self._shapes[-1])
        images = Images(address(x), None, None, self._count)
        self._kernels.forward(
            ctypes.byref(self._described), ctypes.byref(images), address(self._workspace),
            self._keep, self._threads, address(out),
        )  # fmt: skip
        return out

    def backward(
        self,
        parameters: Sequence[Tensor],
        grads: Sequence[Tensor | None],
        out_grad: Tensor,
        into: Tensor | None,
    ) -> None:
        """Fill ``grads`` and, for the input's gradient, ``into``."""
        described = self._describe(parameters, grads)
        out_grad = out_grad.contiguous()
        self._kernels.backward(
            ctypes.byref(described), self._count, address(self._workspace),
            self._threads, address(out_grad), address(into),
        )  # fmt: skip

    def _describe(self, parameters: Sequence[Tensor], grads: Sequence[Tensor | None]) -> Any:
        self._values = [p.detach().contiguous() for p in parameters]
        self._described = chain(self._module.blocks, self._shapes, self._values, grads)
        return self._described


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, module: FusedChain, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.module = module
        ctx.run = Pass(module, x, parameters, keep=True)
        ctx.save_for_backward(x, *parameters)
        return ctx.run.forward(x)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, out_grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() or not _plain((out_grad,)):
            # To be differentiated once more, or for many gradients at once: that is PyTorch's.
            again = torch.is_grad_enabled()
            by = [t for t, want in zip(inputs, wanted, strict=True) if want]
            with torch.enable_grad():
                out = ctx.module.plain(inputs[0])
            found = iter(torch.autograd.grad(out, by, out_grad, create_graph=again))
            return None, *(next(found) if want else None for want in wanted)
        grads = [
            torch.empty_like(t, memory_format=torch.contiguous_format) if want else None
            for t, want in zip(inputs, wanted, strict=True)
        ]
        ctx.run.backward(inputs[1:], grads[1:], out_grad, grads[0])
        return None, *grads


def _takes(blocks: Sequence[Block], x: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Whether the kernels compute the chain on ``x`` just as PyTorch would."""
    return (
        _plain((x, *parameters))
        and x.dim() == (2 if isinstance(blocks[0].layer, nn.Linear) else 4)
        and x.numel() > 0
        and shapes(blocks, tuple(x.shape[1:])) is not None
        and not torch.is_autocast_enabled("cpu")
    )


def _plain(tensors: Sequence[Tensor]) -> bool:
    """Whether these are numbers in memory that nobody but autograd follows."""
    return not being_watched(but=private_draws.active()) and all(
        type(t) in (Tensor, nn.Parameter)
        and t.dtype == torch.float32
        and t.device.type == "cpu"
        and t.layout == torch.strided
        and in_memory(t)
        for t in tensors
    )
