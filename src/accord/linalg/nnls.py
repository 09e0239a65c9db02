"""Non-negative quadratic programs, many right-hand sides at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TOLERANCE = 1e-12  # a violation of s >= 0 or y >= 0 smaller than this, relative to max|b|, is rounding


class Solution(NamedTuple):
    """What an iterative solver found.

    Args:
        value: the solution, the best feasible iterate if it did not converge.
        converged: whether the optimality conditions hold.
        iterations: how many rounds it took.
        residual: the largest violation of the optimality conditions, in the solver's own units.
    """

    value: Array
    converged: bool
    iterations: int
    residual: float


def nnls(matrix: Array, targets: Array, *, cap: int = 60) -> Solution:
    """``min ½ sᵀAs − bᵀs`` over ``s ≥ 0`` for every row ``b`` of the targets, by block principal pivoting.

    Júdice & Pires 1994 (Computers & Operations Research 21(5)), with its backup rule: all
    violators of ``s_F ≥ 0``, ``y = As − b ≥ 0`` change sides at once; if that did not reduce their number three times
    running, only the last one does. On nearly singular matrices it can cycle for want of exact arithmetic; what is
    unfinished after `cap` rounds goes to Lawson and Hanson's method, which cannot.

    Args:
        matrix: A (K, K), positive definite, with a diagonal of about one.
        targets: b (R, K).
        cap: rounds of block pivoting.

    Returns:
        A Solution whose value is s (R, K).

    Example:
        >>> A = np.array([[1.0, -0.5], [-0.5, 1.0]])
        >>> s = nnls(A, -A).value
        >>> (s + np.eye(2)).tolist()  # coefficients of the projection of each row on the dual cone
        [[1.0, 0.5], [0.5, 1.0]]
    """
    size = len(matrix)
    tolerance = -TOLERANCE * float(np.abs(targets).max(initial=0.0))
    result = np.zeros_like(targets)  # (R, K)
    todo = np.arange(len(targets))  # (r,), the unfinished right-hand sides
    target, free = targets, np.zeros(targets.shape, dtype=bool)
    slack = -targets  # (r, K), s on the free set, y off it: each is zero where the other is not
    best, patience = np.full(len(todo), size + 1), np.full(len(todo), 3)
    identity, rounds = np.eye(size), 0
    while True:
        bad = slack < tolerance  # (r, K)
        count = bad.sum(1)
        done = count == 0
        if done.any():
            result[todo[done]] = np.where(free[done], slack[done], 0.0)
            keep = ~done
            todo, target, free, bad = todo[keep], target[keep], free[keep], bad[keep]
            best, patience, count = best[keep], patience[keep], count[keep]
        if not len(todo) or rounds == cap:
            break
        rounds += 1
        better = count < best
        patience = np.where(better, 3, patience - 1)
        best = np.minimum(best, count)
        single = patience < 0  # the backup rule: of the violators, flip only the one with the largest index
        if single.any():
            last = size - 1 - bad[single, ::-1].argmax(1)
            bad[single] = np.arange(size) == last[:, None]
        free = free ^ bad
        system = np.where(free[:, :, None] & free[:, None, :], matrix, identity)  # (r, K, K)
        inner = np.linalg.solve(system, np.where(free, target, 0.0)[:, :, None])[:, :, 0]  # (r, K)
        slack = np.where(free, inner, inner @ matrix - target)
    converged, residual = True, 0.0
    for index in todo:
        part = lawson_hanson(matrix, targets[index])
        result[index] = part.value
        converged, residual, rounds = (
            converged and part.converged,
            max(residual, part.residual),
            rounds + part.iterations,
        )
    return Solution(np.maximum(result, 0.0), converged, rounds, residual)


def lawson_hanson(matrix: Array, target: Array) -> Solution:
    """``min ½ sᵀAs − bᵀs`` over ``s ≥ 0``, one variable at a time: slow, but finite without exact arithmetic.

    Lawson & Hanson 1974 (Solving Least Squares Problems, chapter 23), written for the normal equations.

    Args:
        matrix: A (K, K), positive definite.
        target: b (K,).

    Returns:
        A Solution whose value is s (K,) and whose residual is the largest remaining positive gradient.

    Example:
        >>> lawson_hanson(np.eye(2), np.array([2.0, -1.0])).value.tolist()
        [2.0, 0.0]
    """
    size, cap = len(matrix), 30 * len(matrix) + 100
    tolerance = 10 * TOLERANCE * max(float(np.abs(target).max()), 1e-300)
    value, free, blocked = np.zeros(size), np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    gradient = target.copy()  # b − As, (K,)
    for iteration in range(cap):
        candidates = np.where(free | blocked, -np.inf, gradient)
        entering = int(candidates.argmax())
        if candidates[entering] <= tolerance:
            left = float(np.where(free, 0.0, gradient).max(initial=0.0))
            return Solution(value, left <= 1e3 * tolerance, iteration, left)
        free[entering] = True
        for _ in range(size + 1):  # every round but the last removes a variable
            trial = np.zeros(size)
            index = np.flatnonzero(free)
            trial[index] = np.linalg.solve(matrix[np.ix_(index, index)], target[index])
            negative = free & (trial <= 0)
            if not negative.any():
                break
            step = float((value[negative] / (value[negative] - trial[negative]).clip(1e-300)).min())
            value = np.maximum(value + min(step, 1.0) * (trial - value), 0.0)
            free &= value > 0
        else:
            raise AssertionError("the free set shrinks in every round, so it is empty after K + 1")
        # A variable that enters and leaves at once has a gradient that is only rounding: it waits for the next change.
        blocked = blocked | (np.arange(size) == entering) if not free[entering] else np.zeros(size, dtype=bool)
        value = np.where(free, trial, 0.0)
        gradient = target - matrix @ value
    left = float(np.where(free, 0.0, gradient).max(initial=0.0))
    return Solution(value, False, cap, left)
