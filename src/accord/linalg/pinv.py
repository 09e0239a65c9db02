"""Solutions with a symmetric matrix that may be singular."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def eigen(matrix: Array, tolerance: float) -> tuple[Array, Array]:
    """Eigenvalues above ``tolerance · λmax``, ascending, and their eigenvectors.

    Args:
        matrix: (K, K), symmetric and positive semidefinite up to rounding.
        tolerance: relative.

    Returns:
        (r,) and (K, r) with ``r`` the numerical rank.

    Example:
        >>> values, vectors = eigen(np.ones((2, 2)), 1e-10)
        >>> values.round(9).tolist(), vectors.shape
        ([2.0], (2, 1))
    """
    values, vectors = np.linalg.eigh(matrix)
    keep = values > tolerance * values[-1]
    return values[keep], vectors[:, keep]


def pinv_solve(matrix: Array, right: Array, tolerance: float) -> Array:
    """``A⁺b``, the shortest least-squares solution.

    If no eigenvalue is that small, which Cholesky's factorisation of the shifted matrix tells, this is ``A⁻¹b``.

    Args:
        matrix: A (K, K), symmetric and positive semidefinite up to rounding.
        right: b (K,).
        tolerance: eigenvalues below it times the largest count as zero.

    Example:
        >>> pinv_solve(np.ones((2, 2)), np.array([1.0, 1.0]), 1e-10).round(9).tolist()
        [0.5, 0.5]
    """
    shifted = matrix.copy()
    shifted.flat[:: len(matrix) + 1] -= tolerance * float(np.trace(matrix))  # λmax is at most the trace
    try:
        np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError:
        values, vectors = eigen(matrix, tolerance)
        return vectors @ ((vectors.T @ right) / values)  # (K,)
    return np.linalg.solve(matrix, right).astype(np.float64, copy=False)  # (K,)
