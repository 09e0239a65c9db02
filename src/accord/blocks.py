"""Blocks: the named groups of shared parameters in which conflict is measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from accord.errors import AccordError, nearest

Granularity = Literal["total", "module", "tensor"]
OUTSIDE = "(outside the model)"
OTHERS = "(others)"
# What a parametrised weight is made of counts as that weight: blocks are the same where a model is trained sparsely.
PARAMETRISED = re.compile(r"parametrizations\.(\w+)\.(?:original\d*|\d+\..+)$")


@dataclass(frozen=True)
class Blocks:
    """A partition of the shared parameters.

    Args:
        names: B names in model order, or in that of the mapping that names them.
        index: for each shared parameter its block, or -1 where it does not enter the Gramian.
    """

    names: tuple[str, ...]
    index: tuple[int, ...]


def partition(
    model: nn.Module,
    shared: Sequence[Tensor],
    measured: Sequence[bool],
    granularity: Granularity | Mapping[Tensor, str] = "total",
) -> Blocks:
    """Group shared parameters by the module that owns them, one by one, all together, or as a mapping says.

    Args:
        model: names the parameters; a tied one goes by its first name.
        shared: the shared parameters of this step.
        measured: which of them enter the Gramian.
        granularity: ``total`` (one block), ``module`` (weight and bias of a layer together), ``tensor``, or the name of
            each parameter's block. Parameters that the mapping leaves out make the last block, ``(others)``: blocks
            must add up to the whole.

    Raises:
        AccordError: on another granularity.

    Example:
        >>> import torch
        >>> from accord.blocks import partition
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> partition(net, list(net.parameters()), [True] * 4, "module")
        Blocks(names=('0', '2'), index=(0, 0, 1, 1))
        >>> partition(net, list(net.parameters()), [True] * 4, {net[2].weight: "last", net[0].weight: "first"})
        Blocks(names=('last', 'first', '(others)'), index=(1, 2, 0, 2))
        >>> normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 3))
        >>> partition(normed, list(normed.parameters()), [True] * 3, "tensor")
        Blocks(names=('bias', 'weight'), index=(0, 1, 1))
    """
    names: Mapping[Tensor, str]
    if isinstance(granularity, Mapping):
        names, rest = granularity, OTHERS
    elif granularity not in get_args(Granularity):
        raise AccordError(f"blocks={granularity!r} is not known.{nearest(str(granularity), get_args(Granularity))}")
    elif granularity == "total":
        return Blocks(("total",) if any(measured) else (), tuple(0 if counts else -1 for counts in measured))
    else:
        named = ((PARAMETRISED.sub(r"\1", name), p) for name, p in model.named_parameters())
        names = {p: name if granularity == "tensor" else name.rpartition(".")[0] or "(root)" for name, p in named}
        rest = OUTSIDE
    own = [names.get(p, rest) if counts else None for p, counts in zip(shared, measured, strict=True)]
    here = set(own)
    found = [name for name in dict.fromkeys([*names.values(), rest]) if name in here]
    position = {name: i for i, name in enumerate(found)}
    return Blocks(tuple(found), tuple(-1 if name is None else position[name] for name in own))
