"""CAGrad: the direction near the mean that helps the worst-off task most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.linalg.cone import onto_dual_cone
from accord.linalg.norm_penalty import linear_plus_norm
from accord.linalg.scaling import EPSILON, is_stationary, scaled
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.outcomes import checked, zeros


@dataclass(eq=False, repr=False)
class CAGrad(Weighting):
    """Conflict-averse gradient descent.

    ``max_d min_i g_i·d`` subject to ``‖d − g_0‖ ≤ c‖g_0‖``, ``g_0`` the mean gradient. With ``ϕ = c‖g_0‖`` its dual is
    ``w* = argmin_{w∈Δ} g_0·g_w + ϕ‖g_w‖``, ``g_w = Jᵀw``, and ``d = (g_0 + ϕ g_{w*}/‖g_{w*}‖)/(1 + c²)``.

    Source: Liu et al. 2021 (NeurIPS), "Conflict-Averse Gradient Descent for Multi-task Learning",
    [arXiv 2110.14048](https://arxiv.org/abs/2110.14048), algorithm 1; c = 0.5 is the default of
    the authors' code.

    The division by 1 + c² is what the official call sites do. Where ``g_{w*}`` vanishes, its direction is
    undefined, and others return zeros. No d of the ball then improves all tasks; the one that is nearest to ``g_0``
    among those that harm nobody is the projection of ``g_0`` on the dual cone, and that is what we return.

    Args:
        c: radius of the ball relative to ``‖g_0‖``, ``>= 0``; 0 is the mean, from 1 on no task is harmed, and for
            ``c → ∞`` the direction is MGDA's.

    Example:
        >>> import torch
        >>> J = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)
        >>> ((1 + 0.5**2) * CAGrad(c=0.5)(J @ J.T)).numpy().round(4).tolist()
        [0.7041, 0.5]
    """

    c: float = 0.5

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "mean"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "H1"})

    def __post_init__(self) -> None:
        checks.number(self, "c", least=0.0)

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The weights of g_0 and of the correction together. See the class."""
        assert gramian is not None
        count = len(gramian)
        mean = np.full(count, 1 / count)  # (k,)
        if self.c == 0 or count == 1:
            return mean
        norms, cosines = scaled(gramian)
        largest = norms.max()
        mass = norms / largest * mean  # (k,), scaled weights of g_0, in units of the largest norm
        if is_stationary(cosines, mass, context.epsilon):
            return zeros(self, count)
        products = cosines @ mass  # (k,), g_0·u_i
        size = math.sqrt(float(mass @ products))  # ‖g_0‖
        price = norms.min() / norms  # (k,), scaled weights x belong to w = x·price
        found = linear_plus_norm(cosines, products / size, self.c, price, context.epsilon)
        point = checked(self, found)  # (k,), scaled weights of g_w, up to a factor
        square = float(point @ cosines @ point)  # ‖g_w‖²
        final = None
        if square <= self._unclear(context.epsilon, count) * float(point.sum()) ** 2:
            final = self._nearest(cosines, mass, size, context.epsilon)
        if final is None:
            final = mass + self.c * size / math.sqrt(square) * point
        if is_stationary(cosines, final, context.epsilon):
            return zeros(self, count)
        return final * (largest / norms) / (1 + self.c**2)

    def _unclear(self, epsilon: float, count: int) -> float:
        """Below which ``‖g_w‖²/(Σx)²`` the solver's regularisation, not the gradients, may have made the direction."""
        return 1e-8 if epsilon <= EPSILON else 100 * epsilon * math.sqrt(count)

    def _nearest(self, cosines: Array, mass: Array, size: float, epsilon: float) -> Array | None:
        """Scaled weights of the point nearest to g_0 that harms nobody, if it lies in the ball."""
        nearest = checked(self, onto_dual_cone(cosines, mass, epsilon))  # (k,)
        way = nearest - mass  # (k,)
        return nearest if way @ cosines @ way <= (self.c * size) ** 2 * (1 + 1e-6) else None
