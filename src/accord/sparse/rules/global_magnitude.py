"""GlobalMagnitude: the largest magnitudes of all weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from accord.sparse.rule import Budgeted, Target
from accord.sparse.selection import Flat, narrow
from accord.sparse.top import top_places


@dataclass(frozen=True, repr=False)
class GlobalMagnitude(Budgeted):
    """Of all weights together, the S with the largest initial magnitude; S is the sum of the rows' budgets.

    Rows and layers get unequal counts, some of them none: those with a small scale are left out. Of equal magnitudes,
    the first in model order.

    Source: Zhang et al. 2024, https://arxiv.org/abs/2411.18615, ablation.

    Args:
        k: see ``Budgeted``; here all rows' budgets make one total.
        density: see ``Budgeted``.
        layers: see ``Budgeted``.

    Example:
        >>> weights = {"a": torch.tensor([[1.0, -4.0]]), "b": torch.tensor([[3.0, 2.0]])}
        >>> targets = [Target(name, weight, keep=1) for name, weight in weights.items()]
        >>> found = GlobalMagnitude(k=1).choose(targets, torch.Generator())
        >>> {name: flat.index.tolist() for name, flat in found.items()}
        {'a': [1], 'b': [0]}
    """

    name: ClassVar[str] = "GlobalMagnitude"
    everywhere: ClassVar[bool] = True

    def choose(self, targets: Sequence[Target], generator: torch.Generator) -> dict[str, Flat]:
        """See ``Rule.choose``."""
        places = top_places([t.matrix for t in targets], sum(self.size(t) for t in targets), magnitude=True)
        return {
            target.name: Flat(narrow(place, target.matrix.numel()))
            for target, place in zip(targets, places, strict=True)
        }
