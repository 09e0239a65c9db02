"""What the user hands over in each step: named scalar losses, checked once at the boundary."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from accord.errors import AccordError


def check(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The losses as given, if they are what a step needs.

    Losses stay apart: elements of one packed tensor share a graph node, so that differentiating each of K elements
    would send zeros through the graphs of all others, and NaN of one would reach the rest.

    Raises:
        AccordError: for no losses, a packed tensor, a loss that is no real scalar, or one tensor under two names.
    """
    if isinstance(losses, Tensor):
        raise AccordError(
            f"losses is one tensor of shape {tuple(losses.shape)}; expected a dict of scalar losses by task name, "
            "each computed by itself: {'depth': depth_loss, 'segmentation': seg_loss}."
        )
    if not isinstance(losses, Mapping) or not losses:
        found = "an empty dict" if isinstance(losses, Mapping) else type(losses).__name__
        raise AccordError(f"losses is {found}; expected a dict with one scalar loss per task.")
    seen: dict[int, str] = {}
    for name, loss in losses.items():
        if not isinstance(name, str):
            raise AccordError(f"task name {name!r} is of type {type(name).__name__}; expected a string.")
        if not isinstance(loss, Tensor):
            raise AccordError(f"loss {name!r} is of type {type(loss).__name__}; expected a scalar tensor.")
        if loss.numel() != 1 or not loss.is_floating_point():
            raise AccordError(
                f"loss {name!r} has shape {tuple(loss.shape)} and dtype {loss.dtype}; expected one real number. "
                "Reduce it first, with .mean() or .sum()."
            )
        if id(loss) in seen:
            raise AccordError(
                f"losses {seen[id(loss)]!r} and {name!r} are the same tensor; name each loss once, or add it up first."
            )
        seen[id(loss)] = name
    return dict(losses)


def values(losses: Mapping[str, Tensor]) -> Tensor:
    """The numbers behind the losses.

    Returns:
        (K,) float64, detached, on the device of the first.
    """
    device = next(iter(losses.values())).device
    return torch.stack([loss.detach().reshape(()).to(device, torch.float64) for loss in losses.values()])  # (K,)
