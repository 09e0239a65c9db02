"""RandomBlock: random weights, as many in every block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from accord.sparse.rule import Budgeted, Target
from accord.sparse.selection import Flat, narrow
from accord.sparse.top import top_places


@dataclass(frozen=True, repr=False)
class RandomBlock(Budgeted):
    """In each block, weights drawn uniformly without replacement from all its matrices: the paper's random rule.

    A block gets the budget of its own rows, so that blocks of the same shape get the same count, and layers and rows
    of a block get what chance gives them. A weight that is in no block is a block by itself.

    Source: Zhang et al. 2024, https://arxiv.org/abs/2411.18615, ablation ("random, equal share per block"). The paper
    leaves open what unequal blocks get.

    Args:
        k: see ``Budgeted``; here the budgets of a block's rows make one total.
        density: see ``Budgeted``.
        layers: see ``Budgeted``.

    Example:
        >>> targets = [Target(name, torch.zeros(4, 5), keep=2, block="blocks.0") for name in ("a", "b")]
        >>> found = RandomBlock(k=2).choose(targets, torch.Generator().manual_seed(0))
        >>> sum(flat.index.numel() for flat in found.values())
        16
    """

    name: ClassVar[str] = "RandomBlock"
    everywhere: ClassVar[bool] = True

    def choose(self, targets: Sequence[Target], generator: torch.Generator) -> dict[str, Flat]:
        """See ``Rule.choose``."""
        blocks: dict[str, list[Target]] = {}
        for target in targets:
            blocks.setdefault(target.block or target.name, []).append(target)
        found = {}
        for inside in blocks.values():
            drawn = [torch.rand(target.matrix.shape, generator=generator) for target in inside]
            places = top_places(drawn, sum(self.size(target) for target in inside))
            for target, place in zip(inside, places, strict=True):
                found[target.name] = Flat(narrow(place, target.matrix.numel()).to(target.matrix.device))
        return found
