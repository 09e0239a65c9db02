"""NashMTL: the Nash bargaining solution of the tasks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.linalg.newton import bargain
from accord.linalg.scaling import EPSILON, regularised, scaled
from accord.linalg.solution import Solution
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.outcomes import checked, zeros


@dataclass(eq=False, repr=False)
class NashMTL(Weighting):
    """Multi-task learning as a bargaining game.

    ``w > 0`` with ``Gw = 1/w`` (element by element), which maximises ``Π g_i·d`` among directions of one length; two
    tasks: ``w_i = 1/(n_i √(1 + cos))``. The solution has ``‖d‖ = √K``, so the native step, clipped to ``max_norm``, is
    in fact normalised.

    Source: Navon et al. 2022 (ICML), "Multi-Task Learning as a Bargaining Game",
    [arXiv 2202.01017](https://arxiv.org/abs/2202.01017), claim 3.1 and algorithm 1; defaults of its code.

    Public implementations approximate w with at most 20 convex programs inside a bare ``except``, so that without the
    right solver the weights silently stay 1; ours solves ``Gw = 1/w`` by a damped Newton method. Their
    ``update_weights_every=n`` is ``Balancer(..., refresh=n)``.

    Args:
        max_norm: bound on the length of the native direction; 0: none.

    Example:
        >>> import torch
        >>> J = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
        >>> w = NashMTL(max_norm=0.0)(J @ J.T)
        >>> bool(torch.allclose(J @ J.T @ w, 1 / w))
        True
    """

    max_norm: float = 1.0

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "unit-free"
    laws: ClassVar[frozenset[str]] = frozenset({"NC", "PE", "SI", "H0"})

    def __post_init__(self) -> None:
        checks.number(self, "max_norm", least=0.0)

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """Bargained weights, clipped. See the class."""
        assert gramian is not None
        weights = self._bargain(gramian, context.epsilon)  # (k,)
        length = math.sqrt(max(float(weights @ gramian @ weights), 0.0))
        return weights * (self.max_norm / length) if 0 < self.max_norm < length else weights

    def _bargain(self, gramian: Array, epsilon: float) -> Array:
        norms, cosines = scaled(gramian)
        count = len(norms)
        if count == 2:  # y_1 = y_2 = y with y²(1 + cos) = 1
            found = Solution(np.full(2, 1 / math.sqrt(max(1 + cosines[0, 1], epsilon))), True, 0, 0.0)
        else:
            found = bargain(regularised(cosines, epsilon))
        inner = found.value  # (k,)
        # Near a stationary point y grows without bound; yᵀCy = K tells nothing, its ratio to (Σy)² does.
        threshold = 1e-8 * inner.sum() ** 2 if epsilon <= EPSILON else 4 * epsilon * (inner @ inner)
        if inner @ cosines @ inner < threshold:
            return zeros(self, count)
        return checked(self, found) / norms
