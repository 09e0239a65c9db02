"""A quadratic over the simplex with a hinge in one direction: the problem of FORUM."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from accord.linalg.scaling import regularised
from accord.linalg.simplex_qp import simplex_qp
from accord.linalg.solution import Solution

Array = NDArray[np.float64]


def hinge_qp(cosines: Array, along: Array, reach: float, epsilon: float) -> Solution:
    """``min λᵀCλ + s max(κ − s, 0)`` over the simplex, ``s = cᵀλ``.

    C are the cosines of unit rows U and ``c = Uq`` those with one more unit vector q, which makes the objective convex:
    it is ``‖Uᵀλ + νq‖² − κν``, jointly convex in λ and ν, at ``ν = max(κ − s, 0)``, the least ν that is allowed. What
    it is for ``s ≤ κ`` is a lower bound for ``s > κ``, too, so a minimiser of that branch with ``s ≤ κ`` is the answer;
    by convexity, so is a minimiser of the other branch with ``s > κ``. Else the answer has ``s = κ`` and minimises
    ``λᵀCλ − θκs`` for some θ in [0, 1], whose s increases with θ, piecewise linearly: bracketed secants find it.

    Args:
        cosines: C (K, K).
        along: c (K,).
        reach: κ >= 0.
        epsilon: relative accuracy of C and c.

    Returns:
        A Solution whose value is λ (K,), and whose residual is ``|s − κ|`` in the last case.

    Example:
        >>> C, c = np.eye(2), np.array([0.8, 0.0])
        >>> [hinge_qp(C, c, reach, 1e-10).value.round(6).tolist() for reach in (0.1, 0.44, 2.0)]
        [[0.5, 0.5], [0.55, 0.45], [0.147059, 0.852941]]
    """
    matrix = 2 * regularised(cosines, epsilon, share=0.01)
    below = simplex_qp(2 * regularised(cosines - np.outer(along, along), epsilon, share=0.01), reach * along)
    if along @ below.value <= reach:
        return below
    above = simplex_qp(matrix, np.zeros(len(along)))
    if along @ above.value >= reach:
        return above
    left, right = (0.0, above.value), (1.0, simplex_qp(matrix, -reach * along).value)
    converged, rounds, halve = above.converged and below.converged, above.iterations + below.iterations, False
    for _ in range(60):
        low, high = float(along @ left[1]), float(along @ right[1])
        if high - low <= 1e-12 or min(reach - low, high - reach) <= 1e-12 or right[0] - left[0] <= 1e-15:
            break
        share = 0.5 if halve else (reach - low) / (high - low)
        middle = left[0] + share * (right[0] - left[0])
        found = simplex_qp(matrix, -middle * reach * along, free=left[1] > 0)
        converged, rounds = converged and found.converged, rounds + found.iterations
        s = float(along @ found.value)
        halve = not halve
        left, right = ((middle, found.value), right) if s <= reach else (left, (middle, found.value))
    low, high = float(along @ left[1]), float(along @ right[1])
    share = (reach - low) / (high - low) if high > low else 0.0
    value = left[1] + min(max(share, 0.0), 1.0) * (right[1] - left[1])
    residual = abs(float(along @ value) - reach)
    return Solution(value, converged and residual <= 1e-6 * math.hypot(1.0, reach), rounds, residual)
