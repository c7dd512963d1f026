"""Trying a network out before anything is written, so that what doesn't fit is told at once."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from .. import networks
from ..datasets.splits import Dataset
from ..engines.dropout import DropoutByImage
from ..engines.micro_batches import put_back
from ..lib.errors import NetworkError, RecipeError, ShapeError
from ..lib.modes import in_mode
from ..lib.private_draws import OtherGenerators, PrivateDraws, Source
from ..lib.torch_internals import normalises
from ..recipes import Recipe

_DEFAULT_TYPE = " PyTorch makes others by default here: torch.set_default_dtype(torch.float32)."


def check(network: nn.Module, recipe: Recipe, data: Dataset, images: Tensor) -> Source:
    """Let ``images``, the first ones of the data, through, as in a test and as in a training.

    The network's buffers and modes, and the process's generators, are left as they were.

    Returns:
        Where the random numbers come from that the network draws.

    Raises:
        NetworkError: the network has nothing to train, isn't float32, or its forward raises.
        ShapeError: it doesn't take the images, or doesn't give each a score a class.
        RecipeError: an epoch's last batch would be too small for batch normalisation.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    if not trained:
        raise NetworkError(f"{recipe.network} has no trainable parameters.")
    if any(p.dtype != torch.float32 for p in trained):
        kinds = ", ".join(sorted({str(p.dtype) for p in trained}))
        why = "" if torch.get_default_dtype() is torch.float32 else _DEFAULT_TYPE
        message = f"{recipe.network} has parameters of {kinds}; expected torch.float32."
        raise NetworkError(message + why)
    if any(p.is_inference() for p in network.parameters()):
        raise NetworkError(
            f"{recipe.network} was made under torch.inference_mode(), so it can't be trained. Make "
            "it outside."
        )
    _check_last_batch(network, recipe, len(data.train))
    images, draws = images.to(trained[0].device), PrivateDraws(0)
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    others, by_image = (
        OtherGenerators(network),
        DropoutByImage(0, 1, torch.arange(len(images), device=images.device)),
    )
    try:
        for training in (False, True):
            watched = by_image if training else contextlib.nullcontext()
            with torch.no_grad(), in_mode(network, training=training), draws, watched:
                _check_scores(network(images), recipe, data, len(images))
    except (RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, ShapeError):
            raise
        raise ShapeError(shape_error(recipe, images, error)) from error
    except Exception as error:
        if isinstance(error, NetworkError):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise NetworkError(f"the forward of {recipe.network} raised {reason}.") from error
    finally:
        put_back(buffers)
    if draws.shared or others.moved():
        return Source.PROCESS
    return Source.PRIVATE if draws.drew else Source.NONE


def _check_scores(scores: object, recipe: Recipe, data: Dataset, count: int) -> None:
    wanted = (count, len(data.classes))
    if isinstance(scores, Tensor) and scores.shape == wanted:
        return
    got = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    raise ShapeError(
        f"{recipe.network} gives {got} for {count} images; expected scores of shape "
        f"{list(wanted)}, one for each class of {data.name}."
    )


def _check_last_batch(network: nn.Module, recipe: Recipe, count: int) -> None:
    if normalises(network) and count % recipe.batch_size == 1:
        raise RecipeError(
            f"batch_size is {recipe.batch_size}, which leaves one of {count} images for the last "
            f"batch; {recipe.network} normalises over a batch and needs at least two. Choose "
            f"another --batch-size."
        )


def shape_error(recipe: Recipe, images: Tensor, error: Exception) -> str:
    """The sentence for images that a network doesn't take, with the flag that mends it if any."""
    channels, height, width = images.shape[1:]
    came = f"{channels}×{height}×{width}"
    message = f"{recipe.network} doesn't take the images of {came} that it was given ({error})."
    known = networks.NETWORKS.get(recipe.network)
    if height != width:
        return message
    if known is None:
        return f"{message} If their size is what's wrong, --resize N makes them N×N."
    side = known.input[1]
    return f"{message} It expects {channels}×{side}×{side}: --resize {side} makes them so."
