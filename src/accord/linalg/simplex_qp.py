"""Convex quadratic programs over the simplex, or over any ``{x ≥ 0: qᵀx = 1}``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accord.linalg.solution import Solution

Array = NDArray[np.float64]


def simplex_qp(
    matrix: Array, linear: Array, price: Array | None = None, free: NDArray[np.bool_] | None = None
) -> Solution:
    """``min ½xᵀAx + bᵀx`` subject to ``x ≥ 0``, ``qᵀx = 1``.

    First block pivoting on the optimality conditions (``x_F ≥ 0`` and ``r = Ax + b + νq ≥ 0`` off F): all violators
    change sides at once, as long as their number goes down. Else the primal active-set method (Nocedal & Wright 2006,
    algorithm 16.3), which is feasible throughout and ends because the objective decreases from face to face.

    Args:
        matrix: A (K, K), positive definite on the face at hand.
        linear: b (K,).
        price: q (K,), positive; None: ones, the simplex.
        free: (K,) a guess which entries are not zero, such as the last solution's; None: all.

    Returns:
        A Solution whose value is x (K,) and whose residual is the largest negative r.

    Example:
        >>> simplex_qp(np.diag([1.0, 2.0, 4.0]), np.array([0.0, 0.0, 9.0])).value.round(9).tolist()
        [0.666666667, 0.333333333, 0.0]
    """
    price = np.ones(len(linear)) if price is None else price
    # ½(qᵀx)² is constant on the feasible set, but it makes faces solvable on which A alone is singular.
    matrix = matrix + np.outer(price, price)
    free = np.ones(len(linear), dtype=bool) if free is None or not free.any() else free
    best, patience, rounds = len(linear) + 1, 3, 0
    while patience and free.any():
        value, slack = on_face(matrix, linear, price, free)
        bad = np.where(free, value, slack) < _tolerance(value, linear, free)
        rounds, count = rounds + 1, int(bad.sum())
        if not count:
            return Solution(np.maximum(value, 0.0), True, rounds, 0.0)
        patience = 3 if count < best else patience - 1
        best = min(best, count)
        free = free ^ bad
    found = _active_set(matrix, linear, price)
    return found._replace(iterations=found.iterations + rounds)


def on_face(matrix: Array, linear: Array, price: Array, free: NDArray[np.bool_]) -> tuple[Array, Array]:
    """The minimiser on ``{x: qᵀx = 1, x = 0 off F}`` and its reduced gradient ``r = Ax + b + νq``.

    Args:
        matrix: A (K, K).
        linear: b (K,).
        price: q (K,).
        free: (K,), F.

    Returns:
        x (K,) and r (K,), which is zero on F.
    """
    index = np.flatnonzero(free)
    inner = np.linalg.solve(matrix[np.ix_(index, index)], np.stack([price[index], -linear[index]], axis=1))  # (f, 2)
    along, across = inner[:, 0], inner[:, 1]
    multiplier = (price[index] @ across - 1) / (price[index] @ along)  # ν, from qᵀx = 1
    value = np.zeros(len(linear))
    value[index] = across - multiplier * along
    slack = matrix @ value + linear + multiplier * price
    slack[index] = 0.0
    return value, slack


def _tolerance(value: Array, linear: Array, free: NDArray[np.bool_]) -> Array:
    """(K,) how negative an entry of x, or of the reduced gradient, may be by rounding."""
    inner, outer = float(np.abs(value).max()), float(np.abs(linear).max())
    return np.where(free, -1e-12 * inner, -1e-12 * (inner + outer))


def _active_set(matrix: Array, linear: Array, price: Array) -> Solution:
    """The primal active-set method from the best vertex."""
    size = len(linear)
    start = int((0.5 * np.diagonal(matrix) / price**2 + linear / price).argmin())
    value, free = np.zeros(size), np.zeros(size, dtype=bool)
    value[start], free[start] = 1 / price[start], True
    worst = 0.0
    for rounds in range(1, 20 * size + 50):
        trial, slack = on_face(matrix, linear, price, free)
        limit = _tolerance(trial, linear, free)
        negative = free & (trial < limit)
        if negative.any():  # walk towards the face's minimiser as far as the simplex reaches
            steps = np.full(size, np.inf)
            steps[negative] = value[negative] / (value[negative] - trial[negative])
            blocking = int(steps.argmin())
            value = np.maximum(value + steps[blocking] * (trial - value), 0.0)
            value[blocking], free[blocking] = 0.0, False
            continue
        value = np.where(free, np.maximum(trial, 0.0), 0.0)
        entering = int(slack.argmin())
        worst = float(-slack[entering])
        if slack[entering] >= limit[entering]:
            return Solution(value, True, rounds, 0.0)
        free[entering] = True
    return Solution(value, False, 20 * size + 50, worst)
