"""The shortest vector in the convex hull of the rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accord.linalg.nnls import nnls_one
from accord.linalg.scaling import EPSILON, regularised
from accord.linalg.solution import Solution

Array = NDArray[np.float64]


def min_norm(norms: Array, cosines: Array, epsilon: float = EPSILON) -> Solution:
    """``argmin wᵀGw`` over the simplex, as a non-negative least-squares problem.

    ``min_{x≥0} ‖Jᵀx‖² + t(1ᵀx − 1)²`` has the same rays as the constrained problem for every t > 0 (the technique of
    Lawson & Hanson 1974, chapter 23). With ``x = D⁻¹s`` and ``t = min n²`` the matrix is ``C + qqᵀ``,
    ``q_i = min(n)/n_i``, which no ratio of norms can spoil.

    Args:
        norms: (K,), positive.
        cosines: (K, K).
        epsilon: relative accuracy of the cosines.

    Returns:
        A Solution whose value is w (K,), ``w ≥ 0``, ``Σw = 1``.

    Example:
        >>> min_norm(np.array([1.0, 2.0]), np.eye(2)).value.round(9).tolist()
        [0.8, 0.2]
    """
    ratio = norms.min() / norms  # (K,)
    matrix = regularised(cosines, epsilon, share=0.01)
    matrix += ratio[:, None] * ratio
    found = nnls_one(matrix, ratio)
    weights = ratio * found.value  # (K,), s/n up to a factor
    return found._replace(value=weights / weights.sum())
