"""Projection on the cone of directions that harm no task."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accord.linalg.lawson_hanson import lawson_hanson
from accord.linalg.nnls import nnls, pivot_one
from accord.linalg.scaling import EPSILON, is_stationary, regularised
from accord.linalg.solution import Solution
from accord.linalg.splitting import douglas_rachford

Array = NDArray[np.float64]
FEW = 8  # below, plain pivoting is tried before it is known whether the matrix is singular
SOME = 16  # the same for a single program


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
    target = -(matrix @ unit)  # (K,)
    if len(unit) < SOME or not _singular(cosines, epsilon):
        found = pivot_one(matrix, target, 6)
        if found.converged:
            return found._replace(value=size * (unit + found.value))
    guess = np.maximum(douglas_rachford(matrix, target[None], 0.1, 20 + len(unit)), 0.0)  # (1, K)
    if is_stationary(cosines, unit + guess[0], epsilon):  # the projection is not longer than this, which is zero
        return Solution(size * (unit + guess[0]), True, 0, 0.0)
    found = pivot_one(matrix, target, 3, guess[0] > 0)
    if found.converged:
        return found._replace(value=size * (unit + found.value))
    found = lawson_hanson(matrix, target[None], guess)
    return found._replace(value=size * (unit + found.value[0]))


def rows_onto_dual_cone(cosines: Array, epsilon: float = EPSILON) -> Solution:
    """The weights of the projections of all rows, each scaled to unit length, on ``{d: Jd ≥ 0}``.

    If rows with positive weights cancel, the cone is orthogonal to all rows (Stiemke's lemma) and every projection is
    zero. One program says so, that for the sum of the rows, and it is asked first where C is singular: there
    the programs for the single rows are the hardest.

    Args:
        cosines: C (K, K).
        epsilon: relative accuracy of the cosines.

    Returns:
        A Solution whose row i holds the scaled weights (K,) of the projection of row i.

    Example:
        >>> rows_onto_dual_cone(np.array([[1.0, -0.5], [-0.5, 1.0]])).value.round(6).tolist()
        [[1.0, 0.5], [0.5, 1.0]]
    """
    count = len(cosines)
    if count >= FEW and _singular(cosines, epsilon):
        total = onto_dual_cone(cosines, np.ones(count), epsilon)
        if is_stationary(cosines, total.value, epsilon):
            return total._replace(value=np.tile(total.value, (count, 1)))  # (K, K), at least one everywhere
    matrix = regularised(cosines, epsilon)
    found = nnls(matrix, -matrix)
    found.value.flat[:: count + 1] += 1
    return found


def _singular(cosines: Array, epsilon: float) -> bool:
    """Whether some eigenvalue is below 4ε; otherwise no combination is so short that ``is_stationary`` counts it."""
    matrix = cosines.copy()
    matrix.flat[:: len(matrix) + 1] -= 4 * epsilon
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return True
    return False
