"""The receptive field: how large a part of the image one output value has seen.

Kept for each tensor as a size and a jump, in pixels of the input. A window of ``k`` pixels
(dilation ``d``, stride ``s``) widens the size by ``(k - 1)·d·jump`` and multiplies the jump by
``s``; whatever works pixel by pixel changes neither; where branches meet the larger one counts.
Edges are ignored, so a size may exceed the image. After Araujo, Norris and Sim, "Computing
receptive fields of convolutional neural networks", Distill, 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

Pair = tuple[int, int]


@dataclass(frozen=True)
class Field:
    """``size`` and ``jump`` as (vertical, horizontal), in pixels of the input.

    A size is ``"all"`` once the whole image is mixed, and ``"?"`` behind an upsampling, which isn't
    followed. The jump is the distance between the fields of two neighbouring values.
    """

    size: Pair | Literal["all", "?"] = (1, 1)
    effective_stride: Pair = (1, 1)

    def through(self, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Field:
        """The field behind a sliding window."""
        if isinstance(self.size, str):
            return self
        grown = [
            size + (k - 1) * d * effective_stride
            for size, effective_stride, k, d in zip(
                self.size, self.effective_stride, kernel, dilation, strict=True
            )
        ]
        return Field(
            (grown[0], grown[1]),
            (self.effective_stride[0] * stride[0], self.effective_stride[1] * stride[1]),
        )

    def __str__(self) -> str:
        if isinstance(self.size, str):
            return self.size
        height, width = self.size
        return f"{height}" if height == width else f"{height}×{width}"


WHOLE = Field("all")
UNKNOWN = Field("?")


@dataclass(frozen=True)
class _Call:
    """A function's arguments by name, the tensor it works on, and what it gave."""

    given: Mapping[str, Any]
    source: Tensor
    output: Tensor


_MIXERS = {
    "bmm",
    "einsum",
    "matmul",
    "multi_head_attention_forward",
    "scaled_dot_product_attention",
}
_UPSAMPLERS = {"conv_transpose2d", "interpolate", "pixel_shuffle", "upsample"}


def merged(fields: Sequence[Field]) -> Field:
    """The field of a value made from several: the larger size and jump, axis by axis."""
    for unmeasured in (WHOLE, UNKNOWN):
        if unmeasured in fields:
            return unmeasured
    sizes = [field.size for field in fields if not isinstance(field.size, str)]
    return Field(
        (max(height for height, _ in sizes), max(width for _, width in sizes)),
        (
            max(field.effective_stride[0] for field in fields),
            max(field.effective_stride[1] for field in fields),
        ),
    )


def behind(
    function: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    output: Tensor,
    fields: Sequence[Field],
) -> Field:
    """The field of ``output = function(*args, **kwargs)``, from the fields of its inputs.

    ``function`` is the plain name, such as ``conv2d``; ``fields`` holds at least one.
    """
    field = merged(fields)
    if field == WHOLE or function in _MIXERS:
        return WHOLE
    if function in _UPSAMPLERS:
        return UNKNOWN
    if function not in _RULES:
        return field
    names, rule = _RULES[function]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    source = given.get("input")
    return rule(field, _Call(given, source, output)) if isinstance(source, Tensor) else field


def _convolution(field: Field, call: _Call) -> Field:
    kernel, stride = call.given["weight"].shape[-2:], call.given.get("stride", 1)
    return field.through(_pair(kernel), _pair(stride), _pair(call.given.get("dilation", 1)))


def _pooling(field: Field, call: _Call) -> Field:
    kernel = call.given["kernel_size"]
    stride = call.given.get("stride") or kernel
    return field.through(_pair(kernel), _pair(stride), _pair(call.given.get("dilation", 1)))


def _adaptive(field: Field, call: _Call) -> Field:
    before, after = call.source.shape[-2:], call.output.shape[-2:]
    if tuple(after) == (1, 1):
        return WHOLE
    # The widest of its windows: ceil(b / a), and one more where they don't divide evenly.
    kernel = [-(-b // a) + (b % a > 0) for b, a in zip(before, after, strict=True)]
    stride = [max(1, b // a) for b, a in zip(before, after, strict=True)]
    return field.through(_pair(kernel), _pair(stride))


def _linear(field: Field, call: _Call) -> Field:
    # On [N, features] it mixes all; on more dimensions it works position by position.
    return WHOLE if call.source.dim() == 2 else field


def _reduction(field: Field, call: _Call) -> Field:
    return field if call.output.shape[-2:] == call.source.shape[-2:] else WHOLE


def _pair(value: int | Sequence[int]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


# By function: the names of its first arguments, in the order a call may give them, and its rule.
_CONV = ("input", "weight", "bias", "stride", "padding", "dilation")
_POOL = ("input", "kernel_size", "stride", "padding", "dilation")
_RULES: dict[str, tuple[tuple[str, ...], Callable[[Field, _Call], Field]]] = {
    "conv2d": (_CONV, _convolution),
    "max_pool2d": (_POOL, _pooling),
    "avg_pool2d": (_POOL[:4], _pooling),
    "adaptive_avg_pool2d": (("input",), _adaptive),
    "adaptive_max_pool2d": (("input",), _adaptive),
    "linear": (("input",), _linear),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min"), (("input",), _reduction)),
}
