"""PBI: along a ray of preferences, with a penalty on the distance from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.errors import AccordError
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting

SMOOTH = 1e-12  # under the root: on the ray the distance has no gradient


@dataclass(eq=False, repr=False)
class PBI(Weighting):
    """Penalty-based boundary intersection.

    With ``u = weights/‖weights‖`` and ``f = L − z``, the objective is ``d₁ + θ d₂``: ``d₁ = f·u`` is the way along the
    ray and ``d₂ = √(‖f − d₁u‖² + 1e-12)`` the distance from it. Its gradient in the losses gives the weights:
    ``w = u + θ (f − d₁u)/d₂``.

    The weight of a task whose loss is low for the ray can be negative: that loss is then raised on purpose, and an
    optimum need not be Pareto optimal. No weight is negative if ``θ ≤ min_i u_i``.

    Source: Zhang & Li 2007 (IEEE Transactions on Evolutionary Computation 11), "MOEA/D: A Multiobjective Evolutionary
    Algorithm Based on Decomposition", [doi 10.1109/TEVC.2007.892759](https://doi.org/10.1109/TEVC.2007.892759), section
    II-A; θ = 5 from its experiments.

    Args:
        weights: the ray, one number >= 0 per task, not all 0; only its direction counts. There is no default.
        theta: θ >= 0; 0 is linear.
        ideal: z, the least value of each loss; None: 0.

    Example:
        >>> import torch
        >>> PBI(weights=(3.0, 4.0))(losses=torch.tensor([6.0, 8.0]).double()).numpy().round(6).tolist()  # on the ray
        [0.6, 0.8]
    """

    weights: Sequence[float]
    theta: float = 5.0
    ideal: Sequence[float] | None = None

    native_scale: ClassVar[Scale] = "objective"
    laws: ClassVar[frozenset[str]] = frozenset({"H1"})

    def __post_init__(self) -> None:
        checks.vector(self, "weights")
        if min(self.weights) < 0 or not any(self.weights):
            raise AccordError(f"PBI: weights={self.weights!r}, expected numbers >= 0 that are not all 0.")
        checks.number(self, "theta", least=0.0)
        if self.ideal is not None:
            checks.vector(self, "ideal")

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The gradient of way and distance. See the class."""
        point = checks.present(self, losses)  # (k,), f
        if self.ideal is not None:
            point = point - checks.pick(self, "ideal", context.active, context.total)
        ray = checks.pick(self, "weights", context.active, context.total)  # (k,)
        length = float(np.linalg.norm(ray))
        ray = ray / length if length > 0 else ray  # a ray that leaves out all active tasks has no direction
        off = point - (point @ ray) * ray  # (k,)
        return ray + self.theta * off / math.sqrt(off @ off + SMOOTH)
