"""Projection on the cone of directions that harm no task."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accord.linalg.nnls import Solution, nnls
from accord.linalg.scaling import EPSILON, regularised

Array = NDArray[np.float64]


def onto_dual_cone(cosines: Array, weights: Array, epsilon: float = EPSILON) -> Solution:
    """The weights of the point of ``{d: Jd ≥ 0}`` that is nearest to ``Jᵀu``.

    By Moreau's decomposition the projection is ``Jᵀ(u + s)`` with ``s = argmin_{s≥0} ‖Jᵀ(u + s)‖²``; the optimality
    conditions of s are ``G(u + s) ≥ 0``, so no task is harmed (GEM: Lopez-Paz & Ranzato 2017, section 3, eq. 11).

    Args:
        cosines: (K, K), of the rows scaled to unit length.
        weights: (K,) scaled weights ``ũ = D u``.
        epsilon: relative accuracy of the cosines.

    Returns:
        A Solution whose value is the scaled weights (K,).

    Example:
        >>> cosines = np.array([[1.0, -0.5], [-0.5, 1.0]])
        >>> found = onto_dual_cone(cosines, np.array([1.0, 0.0]))
        >>> bool((cosines @ found.value >= -1e-9).all())
        True
    """
    size = float(np.abs(weights).max(initial=0.0)) or 1.0
    unit = weights / size  # (K,)
    matrix = regularised(cosines, epsilon)
    found = nnls(matrix, -(matrix @ unit)[None])
    return found._replace(value=size * (unit + found.value[0]))
