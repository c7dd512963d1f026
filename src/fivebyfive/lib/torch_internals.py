"""What PyTorch tells only by names of its own, which other versions may lack.

Whoever listens to a forward, records it or computes several at once must see PyTorch's own
operations; there is no public way to learn of all of them. Tried with PyTorch 2.4 to 2.15.
"""

from __future__ import annotations

import sys
from types import FrameType

import torch
from torch import Tensor, nn, overrides
from torch.autograd import forward_ad
from torch.nn.modules import module as every_module
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._device import DeviceContext


def hooked(module: nn.Module) -> bool:
    """Whether someone listens to this module's own calls, or has put another forward into it."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)
        or every_module._global_forward_hooks
        or every_module._global_forward_pre_hooks
        or every_module._global_backward_hooks
        or every_module._global_backward_pre_hooks
    )


def normalises(network: nn.Module) -> bool:
    """Whether a result depends on which images are computed together: batch norm that is trained.

    One that was put into evaluation mode is frozen.
    """
    return any(isinstance(module, _BatchNorm) and module.training for module in network.modules())


def being_compiled() -> bool:
    """Whether torch.compile, torch.export or torch.jit is."""
    return bool(torch.compiler.is_compiling() or torch._C._get_tracing_state())


def being_watched(but: int = 0) -> bool:
    """Whether someone sees every operation (FlopCounterMode, say) or changes what it means.

    The latter are vmap, grad and jvp of :mod:`torch.func`, and forward-mode derivatives; or what is
    kept for the backward is made otherwise (checkpoints). ``but`` is how many watchers don't count.
    """
    return bool(
        torch._C._len_torch_dispatch_stack() > but
        or torch._C._autograd._top_saved_tensors_default_hooks(True)
        or torch._C._functorch.peek_interpreter_stack()
        or forward_ad._current_level >= 0
    )


def changed_calls() -> bool:
    """Whether someone sees or changes what is asked of PyTorch; a default device doesn't count."""
    modes = overrides._get_current_function_mode_stack()
    return any(not isinstance(mode, DeviceContext) for mode in modes)


def in_memory(tensor: Tensor) -> bool:
    """Whether this is just the numbers that lie at its address."""
    return not (
        tensor.is_neg()  # to be negated when read
        or tensor._is_zerotensor()
        or torch._C._functorch.is_legacy_batchedtensor(tensor)  # autograd's is_grads_batched
    )


def in_checkpoint() -> bool:
    """Whether this part of a forward will be computed again in the backward, or is just now."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") != "torch.utils.checkpoint":
        frame = frame.f_back
    return frame is not None
