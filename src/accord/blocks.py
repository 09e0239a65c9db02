"""Blocks: the named groups of shared parameters in which conflict is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from accord.errors import AccordError, nearest

Granularity = Literal["total", "module", "tensor"]
OUTSIDE = "(outside the model)"


@dataclass(frozen=True)
class Blocks:
    """A partition of the shared parameters.

    Args:
        names: B names in model order.
        index: for each shared parameter its block, or -1 where it does not enter the Gramian.
    """

    names: tuple[str, ...]
    index: tuple[int, ...]


def partition(
    model: nn.Module, shared: Sequence[Tensor], measured: Sequence[bool], granularity: Granularity = "total"
) -> Blocks:
    """Group shared parameters by the module that owns them, one by one, or all together.

    Args:
        model: names the parameters; a tied one goes by its first name.
        shared: the shared parameters of this step.
        measured: which of them enter the Gramian.
        granularity: ``total`` (one block), ``module`` (weight and bias of a layer together) or ``tensor``.

    Raises:
        AccordError: on another granularity.

    Example:
        >>> import torch
        >>> from accord.blocks import partition
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> partition(net, list(net.parameters()), [True] * 4, "module")
        Blocks(names=('0', '2'), index=(0, 0, 1, 1))
    """
    if granularity not in get_args(Granularity):
        raise AccordError(f"blocks={granularity!r} is not known.{nearest(str(granularity), get_args(Granularity))}")
    if granularity == "total":
        return Blocks(("total",) if any(measured) else (), tuple(0 if counts else -1 for counts in measured))
    names: dict[Tensor, str] = {}
    order: dict[str, int] = {}
    for name, p in model.named_parameters():
        names[p] = name if granularity == "tensor" else name.rpartition(".")[0] or "(root)"
        order.setdefault(names[p], len(order))
    own = [names.get(p, OUTSIDE) if counts else "" for p, counts in zip(shared, measured, strict=True)]
    found = sorted(set(own) - {""}, key=lambda name: order.get(name, len(order)))
    position = {name: i for i, name in enumerate(found)}
    return Blocks(tuple(found), tuple(position.get(name, -1) for name in own))
