"""Minimising a linear function plus a norm over ``{x ≥ 0: qᵀx = 1}``: the dual problem of CAGrad."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from accord.linalg.nnls import Solution
from accord.linalg.scaling import regularised
from accord.linalg.simplex_qp import simplex_qp

Array = NDArray[np.float64]


def linear_plus_norm(cosines: Array, linear: Array, radius: float, price: Array, epsilon: float) -> Solution:
    """``min βᵀx + c√(xᵀCx)`` over ``x ≥ 0``, ``qᵀx = 1``.

    ``√(xᵀCx) = min_t (xᵀCx/t + t)/2``, so for fixed t this is a quadratic program ``½xᵀCx + (t/c)βᵀx``, and the outer
    function of t is convex with slope ``c(1 − xᵀCx/t²)/2``. On a fixed support the solution is affine in t,
    ``x = x_0 + (t/c)v`` with ``x_0ᵀCv = 0``, which gives the exact t: ``t² = x_0ᵀCx_0/(1 − vᵀCv/c²)``. So the rounds
    end as soon as the support repeats; bisection on the sign of the slope takes over where a step leaves the bracket.

    Args:
        cosines: C (K, K).
        linear: β (K,).
        radius: c > 0.
        price: q (K,), with a maximum of one.
        epsilon: relative accuracy of C.

    Returns:
        A Solution whose value is x (K,) and whose residual is ``|√(xᵀCx)/t − 1|``.

    Example:
        >>> x = linear_plus_norm(np.eye(2), np.array([0.5, 0.5]), 1.0, np.ones(2), 1e-10).value
        >>> x.round(9).tolist()
        [0.5, 0.5]
    """
    matrix = regularised(cosines, epsilon, share=0.01)
    value = 1 / price / len(price)  # the mean
    if len(price) == 2:
        return Solution(_pair(matrix, linear, radius, price), True, 1, 0.0)
    size = math.sqrt(float(value @ matrix @ value))
    low, high = 0.0, float((1 / price).max()) * (1 + epsilon)  # ‖x‖_C is at most that of a vertex
    free: NDArray[np.bool_] | None = None
    residual, rounds = math.inf, 0
    for _ in range(60):
        found = simplex_qp(matrix, size / radius * linear, price, free)
        value, rounds = found.value, rounds + found.iterations
        norm = math.sqrt(float(value @ matrix @ value))
        residual = abs(norm / size - 1)
        if residual <= 1e-9 or high - low <= 1e-12 * high:
            return Solution(value, found.converged, rounds, residual)
        low, high = (size, high) if norm > size else (low, size)
        free = value > 0
        size = _exact(matrix, linear, radius, price, free)
        if not low < size < high:
            size = (low + high) / 2 if low > 0.1 * high else math.sqrt(max(low, 1e-16 * high) * high)
    return Solution(value, residual <= 1e-6, rounds, residual)


def _exact(matrix: Array, linear: Array, radius: float, price: Array, free: NDArray[np.bool_]) -> float:
    """The t that solves the problem on this support; infinite if there is none."""
    index = np.flatnonzero(free)
    costs = price[index]
    bordered = matrix[np.ix_(index, index)] + np.outer(costs, costs)  # the added term is constant on the face
    inner = np.linalg.solve(bordered, np.stack([costs, -linear[index]], axis=1))  # (f, 2)
    start = inner[:, 0] / (costs @ inner[:, 0])  # x_0, the shortest point
    drift = inner[:, 1] - (costs @ inner[:, 1]) * start  # v
    inside = matrix[np.ix_(index, index)]
    share = float(drift @ inside @ drift) / radius**2
    return math.sqrt(float(start @ inside @ start) / (1 - share)) if share < 1 else math.inf


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
