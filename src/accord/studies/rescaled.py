"""A method of one's own: the balance of an image-to-image network, set by the lengths of two gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.methods import parse
from accord.methods.method import Array, Context, Scale, Weighting


@dataclass(eq=False, repr=False)
class Rescaled(Weighting):
    """The second gradient brought to ``ratio`` times the length of the first, then another method.

    With ``u = (1, ratio n_1 / n_2)``: ``w = u * method(u uᵀ * G)``. This is how a method of one's own is written: a
    Gramian in, weights out; all else is the Balancer's.

    Args:
        method: the spelling of the other method.
        ratio: of the lengths.
        shortened: shorten the second gradient as much as a projection on the complement of the first would, but leave
            its direction: what a projection does if all it does is to weaken.

    Example:
        >>> import torch
        >>> J = torch.tensor([[1.0, 0.0], [-3.0, 4.0]], dtype=torch.float64)
        >>> direction = Rescaled("Lexicographic()", 0.5)(J @ J.T) @ J  # (-0.3, 0.4) loses what works against (1, 0)
        >>> direction.round(decimals=6).tolist()
        [1.0, 0.4]
    """

    method: str = "Sum()"
    ratio: float = 1.0
    shortened: bool = False

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "sum"

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """(2,) weights. See the class."""
        assert gramian is not None
        if len(gramian) < 2:  # one of the gradients is zero
            return np.ones(len(gramian))
        norms = np.sqrt(np.diagonal(gramian))  # (2,)
        units = np.array([1.0, self.ratio * norms[0] / norms[1]])  # (2,)
        if self.shortened:
            units[1] *= np.sqrt(1 - min(gramian[0, 1] / norms.prod(), 0.0) ** 2)
        method = parse(self.method)
        assert isinstance(method, Weighting)
        return units * method.solve(gramian * np.outer(units, units), losses, context)
