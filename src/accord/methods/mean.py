"""Mean: the average of the losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.methods.method import Array, Context, Scale, Weighting


@dataclass(eq=False, repr=False)
class Mean(Weighting):
    """Every task with weight 1/K, K counting the active tasks.

    ``w_i = 1/K``; with ``scale="sum"`` it equals ``Sum``, with ``scale="native"`` the learning rate means K times less.

    Example:
        >>> import torch
        >>> Mean()(losses=torch.tensor([0.3, 2.0])).tolist()
        [0.5, 0.5]
    """

    native_scale: ClassVar[Scale] = "mean"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "LS", "H1", "RS"})

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """Equal weights that sum to one. See the class."""
        return np.full(len(context.active), 1 / len(context.active))
