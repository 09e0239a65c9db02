"""Successive projections of gradients on each other, followed through their coefficients alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accord.linalg.scaling import EPSILON

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


def vaccinate(
    cosines: Array, orders: NDArray[np.intp], targets: Array, rate: float, epsilon: float = EPSILON
) -> tuple[Array, Array]:
    """Coefficients of unit rows after each was turned to its target cosine with the others, one after the other.

    Row i visits j with cosine ``φ``; if ``φ < t_ij``, then ``u_i' ← u_i' + ‖u_i'‖ (t√(1−φ²)/√(1−t²) − φ) u_j``, which
    makes the cosine ``t`` and keeps the part across ``u_j``, so that ``‖u_i'‖²`` is multiplied by ``(1−φ²)/(1−t²)``.
    Then always ``t_ij ← (1 − β)t_ij + βφ`` (Wang et al. 2021, algorithm 1). A row that has cancelled to less than 1e-6
    of its terms has no cosine any more: it stays, and so do its targets.

    Args:
        cosines: (K, K).
        orders: (K, V) int; row i: whom task i visits, in this order.
        targets: t (K, K), in [-1, 1]; used within 1e-6 of these bounds.
        rate: β.
        epsilon: relative accuracy of the cosines.

    Returns:
        (K, K) coefficients and (K, K) new targets.

    Example:
        >>> cosines = np.array([[1.0, -0.6], [-0.6, 1.0]])
        >>> coefficients, targets = vaccinate(cosines, np.array([[1], [0]]), np.zeros((2, 2)), 0.1)
        >>> coefficients.round(9).tolist(), targets.round(9).tolist()  # targets of zero: the projections of PCGrad
        ([[1.0, 0.6], [0.6, 1.0]], [[0.0, -0.06], [-0.06, 0.0]])
    """
    products, targets = cosines.copy(), targets.copy()  # (K, K), v_ij = u_i'·u_j
    coefficients = np.eye(len(cosines))  # (K, K)
    squares, sizes = np.ones(len(cosines)), np.ones(len(cosines))  # (K,), ‖u_i'‖² and Σ_k|c_ik|
    cancelled = 1e-12 if epsilon <= EPSILON else 4 * epsilon
    for visited in orders.T:  # (K,)
        rows = np.flatnonzero(squares > cancelled * sizes**2)  # (r,)
        partners = visited[rows]
        lengths = np.sqrt(squares[rows])
        found = np.minimum(np.maximum(products[rows, partners] / lengths, -1.0), 1.0)  # (r,), φ
        kept = targets[rows, partners]  # (r,), t
        targets[rows, partners] = kept + rate * (found - kept)
        aim = np.minimum(np.maximum(kept, 1e-6 - 1), 1 - 1e-6)
        low = np.flatnonzero(found < aim)
        if len(low):
            rows, partners, found, aim = rows[low], partners[low], found[low], aim[low]
            share = (1 - found) * (1 + found) / ((1 - aim) * (1 + aim))
            added = lengths[low] * (aim * np.sqrt(share) - found)  # (r,), positive, as the cosine rises
            products[rows] += added[:, None] * cosines[partners]
            coefficients[rows, partners] += added
            squares[rows] *= share
            sizes[rows] += added
    return coefficients, targets
