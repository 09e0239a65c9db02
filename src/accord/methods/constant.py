"""Constant: fixed weights chosen by the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting


@dataclass(eq=False, repr=False)
class Constant(Weighting):
    """Every task with a weight of the user's choice: linear scalarisation.

    ``w_i = weights[i]``, where i counts the tasks in the order in which they were first named.

    Args:
        weights: one finite number per task; there is no default.

    Example:
        >>> import torch
        >>> Constant(weights=(1.0, 0.2))(losses=torch.tensor([0.3, 2.0])).tolist()
        [1.0, 0.20000000298023224]
    """

    weights: Sequence[float]

    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"LS", "H1"})

    def __post_init__(self) -> None:
        checks.vector(self, "weights")

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The weights of the active tasks. See the class."""
        return checks.pick(self, "weights", context.active, context.total)
