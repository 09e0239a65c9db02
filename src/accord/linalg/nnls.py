"""Non-negative quadratic programs, many right-hand sides at once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from accord.linalg.faces import on_faces
from accord.linalg.lawson_hanson import lawson_hanson
from accord.linalg.solution import Solution
from accord.linalg.splitting import douglas_rachford

Array = NDArray[np.float64]
TOLERANCE = 1e-12  # a violation of s >= 0 or y >= 0 smaller than this, relative to max|b|, is rounding
LARGE = 12  # from this many unknowns on, a first guess by splitting is cheaper than the rounds it saves
REGULAR = 1e5  # a matrix whose inverse is larger than this is not to be inverted


def nnls(matrix: Array, targets: Array, *, cap: int = 8) -> Solution:
    """``min ½ sᵀAs − bᵀs`` over ``s ≥ 0`` for every row ``b`` of the targets, by block principal pivoting.

    Júdice & Pires 1994 (Computers & Operations Research 21(5)), with its backup rule: all
    violators of ``s_F ≥ 0``, ``y = As − b ≥ 0`` change sides at once; if that did not reduce their number three times
    running, only the last one does. It takes at most about 7 rounds where A is well conditioned. On nearly singular
    matrices it can cycle for want of exact arithmetic; what is unfinished after `cap` rounds goes to Lawson and
    Hanson's method, which cannot. A few steps of Douglas and Rachford's splitting give both a first guess: pivoting
    if there are many large problems, and Lawson and Hanson's method wherever the matrix is nearly singular.

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
    if len(targets) == 1:
        found = nnls_one(matrix, targets[0], cap=cap)
        return found._replace(value=found.value[None])
    inverse, start = None, np.zeros_like(targets)  # (R, K)
    free = targets > TOLERANCE * float(np.abs(targets).max(initial=0.0))  # (R, K)
    if not free.any():
        return Solution(start, True, 0, 0.0)
    if len(matrix) >= LARGE:
        inverse = np.linalg.inv(matrix).astype(np.float64, copy=False)  # (K, K)
        regular = float(np.abs(np.diagonal(inverse)).max()) <= REGULAR
        point = douglas_rachford(matrix, targets, *((0.5, 12) if regular else (0.1, 40)))  # (R, K)
        free, start = point > 0, np.maximum(point, 0.0)
        if not regular:
            inverse, cap = None, 0
    result, todo, rounds = _pivot(matrix, inverse, targets, free, cap)
    if not len(todo):
        return Solution(np.maximum(result, 0.0), True, rounds, 0.0)
    found = lawson_hanson(matrix, targets[todo], start[todo])
    result[todo] = found.value
    return Solution(np.maximum(result, 0.0), found.converged, rounds + found.iterations, found.residual)


def _pivot(
    matrix: Array, inverse: Array | None, targets: Array, free: NDArray[np.bool_], cap: int
) -> tuple[Array, NDArray[np.intp], int]:
    """Block pivoting from the free sets given: s (R, K), which rows are unfinished, and the rounds."""
    size = len(matrix)
    tolerance = -TOLERANCE * float(np.abs(targets).max(initial=0.0))
    result = np.zeros_like(targets)  # (R, K)
    todo, target = np.arange(len(targets)), targets  # (r,), (r, K): the unfinished right-hand sides
    best, patience = np.full(len(todo), size + 1), np.full(len(todo), 3)
    for rounds in range(cap):
        slack = on_faces(matrix, inverse, target, free)  # (r, K)
        bad = slack < tolerance
        count = bad.sum(1)  # (r,)
        left = count.nonzero()[0]
        if len(left) < len(todo):
            done = count == 0
            result[todo[done]] = np.where(free[done], slack[done], 0.0)
            todo, target, free, bad = todo[left], target[left], free[left], bad[left]
            best, patience, count = best[left], patience[left], count[left]
            if not len(todo):
                return result, todo, rounds + 1
        patience = np.where(count < best, 3, patience - 1)
        best = np.minimum(best, count)
        single = patience < 0  # the backup rule: of the violators, flip only the one with the largest index
        if single.any():
            last = size - 1 - bad[single, ::-1].argmax(1)
            bad[single] = np.arange(size) == last[:, None]
        free = free ^ bad
    return result, todo, cap


def nnls_one(matrix: Array, target: Array, *, cap: int = 8) -> Solution:
    """The same for one right-hand side, without what only many need.

    Args:
        matrix: A (K, K).
        target: b (K,).
        cap: rounds of block pivoting.

    Returns:
        A Solution whose value is s (K,).

    Example:
        >>> nnls_one(np.eye(2), np.array([2.0, -1.0])).value.tolist()
        [2.0, 0.0]
    """
    found = pivot_one(matrix, target, cap)
    if found.converged:
        return found
    start = np.maximum(douglas_rachford(matrix, target[None], 0.1, 20 + len(matrix)), 0.0)  # (1, K)
    found = pivot_one(matrix, target, 3, start[0] > 0)
    if found.converged:
        return found
    found = lawson_hanson(matrix, target[None], start)
    return found._replace(value=found.value[0])


def pivot_one(matrix: Array, target: Array, cap: int, free: NDArray[np.bool_] | None = None) -> Solution:
    """Block pivoting for one right-hand side.

    Args:
        matrix: A (K, K).
        target: b (K,).
        cap: rounds.
        free: (K,) a guess which entries are not zero; None: where b is positive.

    Returns:
        A Solution whose value is s (K,); zero and not converged if it is not finished after `cap` rounds.

    Example:
        >>> pivot_one(np.eye(2), np.array([2.0, -1.0]), 5).value.tolist()
        [2.0, 0.0]
    """
    size = len(matrix)
    tolerance = TOLERANCE * float(np.abs(target).max(initial=0.0))
    free = target > tolerance if free is None else free
    best, patience = size + 1, 3
    for rounds in range(cap):
        if free.all():
            value = np.linalg.solve(matrix, target)  # (K,)
            bad = value < -tolerance
        else:
            index, value = free.nonzero()[0], np.zeros(size)
            value[index] = np.linalg.solve(matrix[index[:, None], index], target[index])
            bad = np.where(free, value, matrix @ value - target) < -tolerance
        count = int(np.count_nonzero(bad))
        if not count:
            return Solution(np.maximum(value, 0.0), True, rounds + 1, 0.0)
        patience = 3 if count < best else patience - 1
        best = min(best, count)
        if patience < 0:
            bad = np.arange(size) == bad.nonzero()[0][-1]
        free = free ^ bad
    return Solution(np.zeros(size), False, cap, math.inf)
