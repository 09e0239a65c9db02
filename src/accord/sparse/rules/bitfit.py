"""BitFit: biases only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from accord.sparse.rule import Rule, Target


@dataclass(frozen=True, repr=False)
class BitFit(Rule):
    """No weight at all is trained, only the biases (and the heads). It has no budget.

    Source: Ben Zaken, Ravfogel & Goldberg 2022, https://arxiv.org/abs/2106.10199. Theirs trains the shifts of norm
    layers, too: add ``overrides={"*norm*.bias": "whole"}``.

    Example:
        >>> from accord.sparse import select
        >>> select(torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Linear(3, 2)), BitFit(), heads="1")
        Mask(BitFit(): 11 of 26 trained, 3 of 18 shared)
    """

    name: ClassVar[str] = "BitFit"
    trains_weights: ClassVar[bool] = False

    def choose(self, targets: Sequence[Target], generator: torch.Generator) -> dict[str, Tensor]:
        """See ``Rule.choose``; never asked."""
        return {}

    def size(self, target: Target) -> int:
        """See ``Rule.size``."""
        return 0
