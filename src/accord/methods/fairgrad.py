"""FairGrad: the gains of the tasks shared out as fairly as asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.errors import AccordError
from accord.linalg.newton import bargain
from accord.linalg.scaling import EPSILON, regularised, scaled
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.outcomes import checked, zeros

SMALLEST = 0.05  # below, the powers of unequal norms overflow


@dataclass(eq=False, repr=False)
class FairGrad(Weighting):
    """Fair resource allocation: the direction that maximises the α-fair utility of the gains ``u_i = g_i·d``.

    ``max Σ u_i^(1−α)/(1−α)`` (``Σ log u_i`` for α = 1) over directions of one length: ``w > 0`` with ``Gw = w^(−1/α)``.
    α = 0 is the mean, α = 1 is NashMTL, and for ``α → ∞`` the smallest gain is maximised, as by MGDA.

    Source: Ban & Ji 2024 (ICML), "Fair Resource Allocation in Multi-Task Learning",
    [arXiv 2402.15638](https://arxiv.org/abs/2402.15638), eq. 4 and algorithm 1; defaults of the authors' code.

    With ``p = 1/α`` and ``w = cD⁻¹y`` the equation is ``Cy = q y^(−p)``, ``q ∝ n^(p−1)``, solved by a damped Newton
    method. Public implementations hand ``Gw − w^(−p)`` to a general least-squares solver, which at norm ratios of 1e6
    ends at weights that raise losses, unnoticed; the official one also multiplies by K before it clips. For ``α → 0``
    the gains must still not be negative, so the limit is the direction of DualProj, not α = 0, which has no such bound.

    Args:
        alpha: α, 0 or at least 0.05; the larger, the more the worst-off task counts. Beyond about 20 the solver may
            need more steps than it has; an event then says so.
        max_norm: bound on the length of the native direction; 0: none.

    Example:
        >>> import torch
        >>> J = torch.tensor([[3.0, 0.0], [-1.0, 4.0]], dtype=torch.float64)
        >>> w = FairGrad(alpha=2.0, max_norm=0.0)(J @ J.T)
        >>> bool(torch.allclose(J @ J.T @ w, w**-0.5))
        True
    """

    alpha: float = 1.0
    max_norm: float = 1.0

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "unit-free"
    laws: ClassVar[frozenset[str]] = frozenset({"NC", "PE", "SI", "H0"})  # SI for α = 1, H0 also thanks to the clip

    def __post_init__(self) -> None:
        checks.number(self, "alpha", least=0.0)
        if 0 < self.alpha < SMALLEST:
            raise AccordError(f"FairGrad: alpha={self.alpha!r}, expected 0 (the mean) or a number >= {SMALLEST:g}.")
        checks.number(self, "max_norm", least=0.0)

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """Fair weights, clipped. See the class."""
        assert gramian is not None
        count = len(gramian)
        weights = self._fair(gramian, context.epsilon) if self.alpha else np.full(count, 1 / count)  # (k,)
        length = math.sqrt(max(float(weights @ gramian @ weights), 0.0))
        return weights * (self.max_norm / length) if 0 < self.max_norm < length else weights

    def _fair(self, gramian: Array, epsilon: float) -> Array:
        """The positive solution of ``Gw = w^(−p)``, or zeros at a stationary point."""
        norms, cosines = scaled(gramian)
        power = 1 / self.alpha
        right = (power - 1) * np.log(norms)  # (k,), log q
        middle = (right.max() + right.min()) / 2
        found = bargain(regularised(cosines, epsilon), np.exp(right - middle), power)
        inner = found.value  # (k,), y
        # As in NashMTL: y grows without bound near a stationary point, and only the ratio of yᵀCy to (Σy)² tells.
        threshold = 1e-8 * inner.sum() ** 2 if epsilon <= EPSILON else 4 * epsilon * (inner @ inner)
        if inner @ cosines @ inner < threshold:
            return zeros(self, len(norms))
        return checked(self, found) * math.exp(middle / (1 + power)) / norms
