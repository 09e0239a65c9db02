"""Sum: the plain sum of the losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.methods.method import Array, Context, Scale, Weighting


@dataclass(eq=False, repr=False)
class Sum(Weighting):
    """Every task with weight 1: what ``sum(losses.values()).backward()`` does, and the honest baseline.

    ``w_i = 1``

    Example:
        >>> import torch
        >>> Sum()(losses=torch.tensor([0.3, 2.0])).tolist()
        [1.0, 1.0]
    """

    plain: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "LS", "H1", "RS"})

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """Ones. See the class."""
        return np.ones(len(context.active))
