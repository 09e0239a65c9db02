"""Jacobi scaling of a Gramian, and the test for a stationary point."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EPSILON = 1e-10  # regularisation for Gramians whose entries were computed in float64


def scaled(gramian: Array) -> tuple[Array, Array]:
    """Norms and cosines of the rows behind a Gramian: ``n_i = √G_ii``, ``C = D⁻¹ G D⁻¹`` with ``D = diag(n)``.

    Solvers work on ``C``, whose condition does not suffer from tasks of different size: with 1e-4 added to the
    trace-normalised Gramian instead, UPGrad's direction has cosine -0.5 with the smallest task at a norm ratio of 1e3.

    Args:
        gramian: (K, K) with a positive diagonal.

    Returns:
        norms (K,) and cosines (K, K), which have a diagonal of ones and lie in [-1, 1].

    Example:
        >>> norms, cosines = scaled(np.array([[4.0, -3.0], [-3.0, 9.0]]))
        >>> norms.tolist(), cosines.tolist()
        ([2.0, 3.0], [[1.0, -0.5], [-0.5, 1.0]])
    """
    norms = np.sqrt(gramian.diagonal())  # (K,)
    cosines = gramian / norms[:, None]  # (K, K), two divisions: the product of two norms could overflow
    cosines /= norms
    np.maximum(cosines, -1.0, out=cosines)  # with the next line cheaper than np.clip for small arrays
    np.minimum(cosines, 1.0, out=cosines)
    cosines.flat[:: len(norms) + 1] = 1.0
    return norms, cosines


def regularised(cosines: Array, epsilon: float, share: float = 1.0) -> Array:
    """``C`` plus a small multiple of the identity: positive definite although ``C`` may be singular.

    With float64 products ε = 1e-10 is far above rounding, and a solver may ask for a share of it. Beyond float64, ε
    *is* the rounding of an entry; K×K independent errors of that size move eigenvalues by up to about ``ε√K``.

    Args:
        cosines: (K, K).
        epsilon: relative accuracy of the entries.
        share: how much of ε suffices if the products are float64.

    Example:
        >>> regularised(np.ones((4, 4)), 0.5)[0].tolist()
        [2.0, 1.0, 1.0, 1.0]
    """
    matrix = cosines.copy()
    matrix.flat[:: len(matrix) + 1] += share * epsilon if epsilon <= EPSILON else epsilon * math.sqrt(len(matrix))
    return matrix


def is_stationary(cosines: Array, weights: Array, epsilon: float = EPSILON) -> bool:
    """Whether ``d = Σ w̃_i g_i/n_i`` is only the rounding residue of a zero, so that its direction means nothing.

    ``‖d‖ ≤ 1e-6 Σ|w̃|`` for float64 products, ``‖d‖² = w̃ᵀCw̃``: solvers leave ``g_i·d/n_i ≥ −1e-10 Σ|w̃|``, so every other
    d has cosines above -1e-4. Entries that are wrong by ε make ``‖d‖²`` wrong by about
    ``ε Σw̃²``, and ``‖d‖`` by the root of that: beyond float64, ``‖d‖² ≤ 4ε Σw̃²``.

    Args:
        cosines: (K, K).
        weights: (K,) scaled weights ``w̃ = D w``.
        epsilon: relative accuracy of the entries.

    Example:
        >>> opposite = np.array([[1.0, -1.0], [-1.0, 1.0]])
        >>> is_stationary(opposite, np.array([0.5, 0.5])), is_stationary(opposite, np.array([0.5, 0.4]))
        (True, False)
    """
    square = float(weights @ cosines @ weights)  # ‖d‖²
    if epsilon <= EPSILON:
        return square <= (1e-6 * float(np.abs(weights).sum())) ** 2
    return square <= 4 * epsilon * float(weights @ weights)
