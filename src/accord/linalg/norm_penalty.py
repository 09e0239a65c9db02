"""Minimising a linear function plus a norm over ``{x ≥ 0: qᵀx = 1}``: the dual problem of CAGrad."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from accord.linalg.nnls import nnls
from accord.linalg.scaling import regularised
from accord.linalg.solution import Solution

Array = NDArray[np.float64]
CANCELLED = 1e-5  # ``√(xᵀCx)/Σx`` below which x proves that rows cancel


def linear_plus_norm(cosines: Array, linear: Array, radius: float, price: Array, epsilon: float) -> Solution:
    """``min βᵀx + c√(xᵀCx)`` over ``x ≥ 0``, ``qᵀx = 1``.

    The objective is homogeneous, so with F its minimum and ``z = cx/√(xᵀCx)`` the optimality conditions are those of
    ``min_{z≥0} ½zᵀCz − (Fq − β)ᵀz``, and F is the level at which that program's solution has ``zᵀCz = c²``. On a fixed
    support z is affine in F, ``z = Fa − b``, which gives F from a quadratic equation. Block pivoting on z and F settles
    most problems (Júdice & Pires 1994, with F as one more unknown). Else ``zᵀCz``, which is convex and increasing in F,
    is followed to c² within a bracket, with one quadratic program a step.

    Args:
        cosines: C (K, K).
        linear: β (K,).
        radius: c > 0.
        price: q (K,), with a maximum of one.
        epsilon: relative accuracy of C.

    Returns:
        A Solution whose value is x (K,) and whose residual is ``|√(zᵀCz)/c − 1|``, or the relative gap to the minimum
        where rows cancel.

    Example:
        >>> x = linear_plus_norm(np.eye(2), np.array([0.5, 0.5]), 1.0, np.ones(2), 1e-10).value
        >>> x.round(9).tolist()
        [0.5, 0.5]
    """
    matrix = regularised(cosines, epsilon, share=0.01)
    if len(price) == 2:
        return Solution(_pair(matrix, linear, radius, price), True, 1, 0.0)
    free, best, patience = np.ones(len(price), dtype=bool), len(price) + 1, 3
    for rounds in range(20):
        value, level, exact = _on_face(matrix, linear, radius, price, free)  # (K,), z and F
        slack = np.where(free, value, matrix @ value + linear - level * price)
        bad = slack < -1e-12 * (np.abs(value).max() + np.abs(linear).max())
        count = int(np.count_nonzero(bad))
        if not count and exact:
            value = np.maximum(value, 0.0)
            return Solution(value / (price @ value), True, rounds + 1, 0.0)
        free, best, patience = free ^ bad, min(best, count), 3 if count < best else patience - 1
        if patience < 0 or not free.any():
            break
    return _bracketed(matrix, linear, radius, price)


def _bracketed(matrix: Array, linear: Array, radius: float, price: Array) -> Solution:
    """The level F from a bracket: z = 0 at the lower end, and no x lies below the minimum at the upper end."""
    mean = 1 / price / len(price)
    low, high = float((linear / price).min()), float(linear @ mean) + radius * math.sqrt(float(mean @ matrix @ mean))
    level, value, residual, rounds, converged = high, mean, math.inf, 0, False
    for _ in range(60):
        found = nnls(matrix, (level * price - linear)[None])
        (point,), rounds = found.value, rounds + found.iterations
        length = math.sqrt(float(point @ matrix @ point))
        low, high = (level, high) if length < radius else (low, level)
        level = (low + high) / 2
        if length:
            value, converged = point / (price @ point), found.converged
            norm, residual = length / float(price @ point), abs(length / radius - 1)
            if norm <= CANCELLED * value.sum():  # z is so large that its length is rounding; the gap to the bound tells
                gap = float(linear @ value) + radius * norm - low
                residual = gap / float(np.abs(linear) @ value + radius * value.sum())
            _, guess, exact = _on_face(matrix, linear, radius, price, point > 0)
            level = guess if exact and low < guess < high else level
        if residual <= 1e-9 or high - low <= 1e-15 * max(abs(low), abs(high)):
            break
    return Solution(value, converged and residual <= 1e-6, rounds, residual)


def _on_face(
    matrix: Array, linear: Array, radius: float, price: Array, free: NDArray[np.bool_]
) -> tuple[Array, float, bool]:
    """The z (K,) and F that solve the problem on this support; False with those of the shortest z if it is too long.

    With ``a = C⁻¹q`` and ``b = C⁻¹β`` there, ``zᵀCz = αF² − 2γF + δ``, ``α = qᵀa``, ``γ = qᵀb``, ``δ = βᵀb``.
    """
    index, value = free.nonzero()[0], np.zeros(len(price))
    right = np.array([price[index], linear[index]])  # (2, f)
    inner = np.linalg.solve(matrix[index[:, None], index], right.T)  # (f, 2)
    (alpha, gamma), (_, delta) = (right @ inner).tolist()
    room = gamma**2 - alpha * (delta - radius**2)
    level = (gamma + math.sqrt(max(room, 0.0))) / alpha
    value[index] = level * inner[:, 0] - inner[:, 1]
    return value, level, room >= 0


def _pair(matrix: Array, linear: Array, radius: float, price: Array) -> Array:
    """Closed form for two rows.

    On ``x = y + w δ``, ``y`` the second vertex and ``δ`` the way to the first, the derivative is
    ``p + c√α z/√(z² + Δ)`` with ``z = αw + β``, ``α = δᵀCδ``, ``β = yᵀCδ``, ``Δ = (yᵀCy)α − β²``, ``p = linear·δ``.
    """
    first, second = np.array([1 / price[0], 0.0]), np.array([0.0, 1 / price[1]])
    way = first - second  # δ
    image = matrix @ way
    alpha, beta, slope = float(way @ image), float(second @ image), float(linear @ way)
    area = (matrix[0, 0] * matrix[1, 1] - matrix[0, 1] ** 2) / (price[0] * price[1]) ** 2  # Δ, without cancellation
    ratio = -slope / (radius * math.sqrt(alpha))
    if abs(ratio) >= 1:
        return first if ratio > 0 else second
    share = (ratio * math.sqrt(area / (1 - ratio**2)) - beta) / alpha  # w
    return second + min(max(share, 0.0), 1.0) * way
