"""A first guess at non-negative quadratic programs, for the price of a few matrix products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RELAXATION = 1.6  # the usual over-relaxation (Boyd et al. 2011, section 3.4.3, recommends 1.5 to 1.8)


def douglas_rachford(matrix: Array, targets: Array, penalty: float, steps: int) -> Array:
    """About ``min ½ sᵀAs − bᵀs`` over ``s ≥ 0`` for every row b of the targets: s is the positive part of the answer.

    The alternating direction method of multipliers (Boyd et al. 2011, Foundations and Trends in Machine Learning 3(1),
    sections 3.4.3 and 5.2) with ``v = s + u``, which keeps both s = max(v, 0) and u = min(v, 0):
    ``v ← α(A + ρI)⁻¹(b + ρ|v|) + (1 − α/2)v − (α/2)|v|``. On a fixed sign pattern this is linear; most signs are right
    long before the numbers are.

    Args:
        matrix: A (K, K), positive semidefinite, with a diagonal of about one.
        targets: b (R, K).
        penalty: ρ > 0; small if A is nearly singular.
        steps: how many.

    Returns:
        v (R, K).

    Example:
        >>> v = douglas_rachford(np.array([[1.0, -0.5], [-0.5, 1.0]]), np.array([[1.0, -2.0]]), 0.5, 40)
        >>> np.maximum(v, 0).round(6).tolist()
        [[1.0, 0.0]]
    """
    size = len(matrix)
    shifted = matrix.copy()
    shifted.flat[:: size + 1] += penalty
    inverse = np.linalg.inv(shifted).astype(np.float64, copy=False)  # (K, K)
    constant = RELAXATION * (targets @ inverse)  # (R, K)
    mirror = RELAXATION * penalty * inverse  # (K, K)
    mirror.flat[:: size + 1] -= RELAXATION / 2
    if len(targets) == 1:
        return _one(mirror, constant[0], np.maximum(targets[0], 0.0), steps)[None, :]
    point = np.maximum(targets, 0.0)  # (R, K)
    size_of, product = np.empty_like(point), np.empty_like(point)
    for _ in range(steps):
        np.abs(point, out=size_of)
        np.matmul(size_of, mirror, out=product)
        point *= 1 - RELAXATION / 2
        point += product
        point += constant
    return point


def _one(mirror: Array, constant: Array, point: Array, steps: int) -> Array:
    """(K,), the same for one row: a step is the product of (|v|, v, 1) with one matrix, in as few calls as can be."""
    size = len(point)
    step = np.concatenate([mirror, (1 - RELAXATION / 2) * np.eye(size), constant[None]])  # (2K + 1, K)
    state = np.ones(2 * size + 1)
    state[size:-1] = point
    for _ in range(steps):
        np.abs(state[size:-1], out=state[:size])
        state[size:-1] = state.dot(step)
    return state[size:-1]
