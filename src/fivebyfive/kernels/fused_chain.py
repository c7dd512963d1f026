"""A chain of blocks as one step for PyTorch's autograd."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import again
from .blocks import Block, address, chain, empty, shapes
from .library import Images, kernels
from .taking import plain_numbers


class FusedChain(nn.Module):
    """A chain run by the kernels, or by PyTorch (``plain``) for inputs they don't take."""

    def __init__(self, blocks: Sequence[Block], plain: nn.Module, flattens: bool = False) -> None:
        super().__init__()
        self.flattens = flattens
        self.blocks = tuple(blocks)
        self.plain = plain
        self.spare: list[Tensor] = []  # a workspace nobody uses at the moment

    def forward(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """Run the chain on a batch, with the blocks' parameters in their order."""
        if not _takes(self.blocks, self.flattens, x, parameters):
            return self.plain.forward(x, *parameters)  # type: ignore[no-any-return]
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
        # Autograd forbids that what is saved be changed before the backward: no more than PyTorch's
        # own layers save.
        saved = _saved(module.blocks, ctx.needs_input_grad[1:])
        inputs = (x, *parameters)
        ctx.save_for_backward(*(t if s else None for t, s in zip(inputs, saved, strict=True)))
        ctx.others = [None if s else t for t, s in zip(inputs, saved, strict=True)]
        return ctx.run.forward(x)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, out_grad: Tensor) -> tuple[Tensor | None, ...]:
        both = zip(ctx.saved_tensors, ctx.others, strict=True)
        inputs = [other if saved is None else saved for saved, other in both]
        wanted = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() or not plain_numbers((out_grad,)):
            # To be differentiated once more, or for many gradients at once: that is PyTorch's.
            compute = ctx.module.plain.forward
            return None, *again.gradients(compute, inputs, wanted, out_grad)
        grads = [
            torch.empty_like(t, memory_format=torch.contiguous_format) if want else None
            for t, want in zip(inputs, wanted, strict=True)
        ]
        ctx.run.backward(inputs[1:], grads[1:], out_grad, grads[0])
        return None, *grads


def _saved(blocks: Sequence[Block], needed: Sequence[bool]) -> list[bool]:
    """Which of a chain's input and parameters PyTorch's layers keep for the backward.

    ``needed`` tells which of them need a gradient. A convolution keeps its input and weight, a
    linear layer each of them for the gradient of the other; biases aren't kept.
    """
    flags = iter(needed[1:])
    flowing, saved = needed[0], [blocks[0].convolves or needed[1]]
    for block in blocks:
        saved += [block.convolves or flowing] + [False] * block.bias
        trained = [next(flags) for _ in range(block.parameters)]
        flowing = flowing or any(trained)
    return saved


def _takes(
    blocks: Sequence[Block], flattens: bool, x: Tensor, parameters: Sequence[Tensor]
) -> bool:
    """Whether the kernels compute the chain on ``x`` just as PyTorch would."""
    return (
        plain_numbers((x, *parameters))
        and _fit(blocks, parameters)
        and (x.dim() >= 2 if flattens else x.dim() == (4 if blocks[0].convolves else 2))
        and x.numel() > 0
        and (not blocks[-1].convolves or _usual_layout(x, *parameters))
        and shapes(blocks, tuple(x.shape[1:])) is not None
    )


def _fit(blocks: Sequence[Block], parameters: Sequence[Tensor]) -> bool:
    """Whether the parameters still have the shapes that the blocks were made for."""
    given = iter(parameters)
    return all(
        next(given).shape == block.weight
        and (not block.bias or next(given).shape == block.weight[:1])
        for block in blocks
    )


def _usual_layout(*tensors: Tensor) -> bool:
    """Whether images come out as the kernels lay them out.

    From others PyTorch makes a layout that shows: in which order dropout draws, in what ``view``
    takes.
    """
    return all(each.is_contiguous() for each in tensors)
