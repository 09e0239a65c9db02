"""Damped Newton's method for the bargaining equation ``Cy = q y^(−p)``."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from accord.linalg.solution import Solution

Array = NDArray[np.float64]
CANCELLED = 1e-9


def bargain(matrix: Array, right: Array | None = None, power: float = 1.0, *, cap: int = 60) -> Solution:
    """The positive solution of ``Cy = q y^(−p)`` (element by element), unique for positive definite C.

    It minimises the convex ``½ yᵀCy − Σ q_i φ(y_i)``, with ``φ = log y`` for p = 1 and ``y^(1−p)/(1−p)`` otherwise, by
    full steps that stop short of the boundary, with Armijo backtracking. For p = 1 the function is self-concordant: no
    backtracking is needed once the Newton decrement is below ¼ (Boyd & Vandenberghe 2004, section 9.6.4).

    Args:
        matrix: C (K, K), positive definite with a diagonal of about one.
        right: q (K,), positive; None: ones.
        power: p > 0.
        cap: Newton steps.

    Returns:
        A Solution whose value is y (K,) and whose residual is ``max|y^p (Cy)/q − 1|``; it aims at 1e-9, and counts as
        converged up to 1e-6, or as soon as ``yᵀCy < 1e-9 (Σy)²``: with C the cosines, y then proves that the rows
        cancel, whatever the solution is. For p ≠ 1 an entry of Cy that is below 1e-4 Σy is measured against that.

    Example:
        >>> C = np.array([[1.0, -0.5], [-0.5, 1.0]])
        >>> y = bargain(C).value
        >>> bool(np.allclose(C @ y, 1 / y))
        True
    """
    right = np.ones(len(matrix)) if right is None else right
    # The minimiser on the ray through q^(1/(1+p)): exact for orthogonal rows, and for parallel ones.
    value = right ** (1 / (1 + power))  # (K,)
    length = float((right @ value ** (1 - power)) / (value @ matrix @ value)) ** (1 / (1 + power))
    value = value * length
    best, lowest = value, float("inf")
    for iteration in range(cap + 1):
        product = matrix @ value  # (K,)
        pull = right * value**-power  # (K,)
        # For large p, entries of Cy shrink like y^(−p), far below the rounding of the terms that cancel to them.
        floor = 0.0 if power == 1 else 1e-4 * float(value.sum())
        residual = float((np.abs(product - pull) / np.maximum(pull, floor)).max())
        if residual < lowest:
            best, lowest = value, residual
        if residual <= 1e-9 or iteration == cap:
            break
        if value @ product < CANCELLED * value.sum() ** 2:
            return Solution(value, True, iteration, residual)
        gradient = product - pull
        hessian = matrix.copy()
        hessian.flat[:: len(matrix) + 1] += power * pull / value
        step = -np.linalg.solve(hessian, gradient)  # (K,)
        decrement = float(-gradient @ step)  # λ²
        shrinking = step < 0
        length = min(1.0, 0.95 * float((-value[shrinking] / step[shrinking]).min(initial=math.inf)))
        if power != 1 or decrement >= 1 / 16:
            length = _armijo(matrix, right, power, value, step, decrement, length)
        value = value + length * step
    return Solution(best, lowest <= 1e-6, iteration, lowest)


def _armijo(
    matrix: Array, right: Array, power: float, value: Array, step: Array, decrement: float, length: float
) -> float:
    """Halve the step until the objective decreases by 1e-4 of what its slope promises."""

    def objective(point: Array) -> float:
        potential = np.log(point) if power == 1 else point ** (1 - power) / (1 - power)
        return float(0.5 * point @ matrix @ point - right @ potential)

    start = objective(value)
    noise = 1e-14 * (abs(start) + float(value.sum()) ** 2)  # rounding of the terms, which may cancel in yᵀCy
    for _ in range(40):
        if objective(value + length * step) <= start - 1e-4 * length * decrement + noise:
            break
        length /= 2
    return length
