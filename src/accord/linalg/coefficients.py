"""Successive projections of gradients on each other, followed through their coefficients alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def project_in_turn(cosines: Array, orders: NDArray[np.intp]) -> Array:
    """Coefficients of unit rows after each removed its conflict with the others, one after the other.

    Row i starts as ``u_i`` and visits the others in its order: ``u_i' ← u_i' − min(u_i'·u_j, 0) u_j``, with ``u_j``
    as it was at the start (Yu et al. 2020, algorithm 1). The rows are kept as ``u_i' = Σ_k c_ik u_k`` with ``v = cC``,
    so a visit costs K numbers instead of P, and all rows make their t-th visit at once.

    Args:
        cosines: (K, K).
        orders: (K, V) int; row i: whom task i visits, in this order.

    Returns:
        (K, K) coefficients c.

    Example:
        >>> cosines = np.array([[1.0, -0.5], [-0.5, 1.0]])
        >>> project_in_turn(cosines, np.array([[1], [0]])).tolist()
        [[1.0, 0.5], [0.5, 1.0]]
    """
    products = cosines.copy()  # (K, K), v_ij = u_i'·u_j
    coefficients = np.eye(len(cosines))  # (K, K)
    rows = np.arange(len(cosines))
    for visited in orders.T:  # (K,)
        found = products[rows, visited]  # (K,)
        conflicting = np.flatnonzero(found < 0)
        if len(conflicting):
            partners, removed = visited[conflicting], -found[conflicting]
            products[conflicting] += removed[:, None] * cosines[partners]
            coefficients[conflicting, partners] += removed
    return coefficients
