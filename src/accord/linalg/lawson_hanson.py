"""Non-negative quadratic programs, one variable at a time: slow, but finite without exact arithmetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accord.linalg.faces import on_faces
from accord.linalg.solution import Solution

Array = NDArray[np.float64]
TOLERANCE = 1e-11  # a gradient smaller than this, relative to max|b|, is rounding


def lawson_hanson(matrix: Array, targets: Array, start: Array) -> Solution:
    """``min ½ sᵀAs − bᵀs`` over ``s ≥ 0`` for every row b of the targets, all rows at once.

    Lawson & Hanson 1974 (Solving Least Squares Problems, chapter 23), written for the normal equations, and from any
    ``s ≥ 0``: walk to the minimiser on the free set as far as no variable becomes negative, and fix the one that would;
    when it is reached, free the variable with the steepest descent. The objective falls from free set to free set.

    Args:
        matrix: A (K, K), positive definite.
        targets: b (R, K).
        start: s (R, K), non-negative.

    Returns:
        A Solution whose value is s (R, K) and whose residual is the largest remaining positive gradient.

    Example:
        >>> lawson_hanson(np.eye(2), np.array([[2.0, -1.0]]), np.zeros((1, 2))).value.tolist()
        [[2.0, 0.0]]
    """
    cap = 30 * len(matrix) + 100
    tolerance = TOLERANCE * max(float(np.abs(targets).max(initial=0.0)), 1e-300)
    result, residual, rounds = start.copy(), 0.0, 0
    todo, target, value = np.arange(len(targets)), targets, start  # (r,), (r, K), (r, K)
    free, blocked = value > 0, np.zeros(value.shape, dtype=bool)  # (r, K)
    entered = np.full(len(todo), -1)  # (r,), the variable that was freed last
    while len(todo) and rounds < cap:
        rounds += 1
        rows = np.arange(len(todo))
        slack = on_faces(matrix, None, target, free)  # (r, K)
        trial = np.where(free, slack, 0.0)  # (r, K)
        ratios = np.full(value.shape, np.inf)
        np.divide(value, value - slack, out=ratios, where=free & (slack <= 0))
        last = ratios.argmin(1)  # (r,), the first variable to become zero on the way
        steps = ratios[rows, last]  # (r,)
        reached = np.isinf(steps)
        part_way = np.maximum(value + np.where(reached, 0.0, steps)[:, None] * (trial - value), 0.0)  # (r, K)
        part_way[rows, last] = 0.0
        value = np.where(reached[:, None], trial, part_way)
        # A variable that enters and leaves at once has a gradient that is only rounding: it waits for the next change.
        left = (entered >= 0) & ~free[rows, entered]
        blocked[reached & ~left] = False
        blocked[rows[reached & left], entered[reached & left]] = True
        gradient = np.where(free | blocked, -np.inf, -slack)  # (r, K)
        top = gradient.argmax(1)  # (r,)
        done = reached & (gradient[rows, top] <= tolerance)
        free = np.where(reached[:, None], free, value > 0)
        entering = reached & ~done
        free[rows[entering], top[entering]] = True
        entered = np.where(entering, top, entered)
        if done.any():
            result[todo[done]] = value[done]
            residual = max(residual, float(np.where(free, 0.0, -slack)[done].max(initial=0.0)))
            todo, target, value, free, blocked, entered = (
                part[~done] for part in (todo, target, value, free, blocked, entered)
            )
    if len(todo):
        result[todo] = value
        residual = max(residual, float(np.where(free, 0.0, target - value @ matrix).max(initial=0.0)))
    return Solution(result, not len(todo) and residual <= 1e3 * tolerance, rounds, residual)
