"""Maps to the probability simplex: Euclidean projection and softmax."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def onto_simplex(point: Array) -> Array:
    """The nearest ``w`` with ``w ≥ 0``, ``Σw = 1``: ``w = max(x − θ, 0)``.

    Held, Wolfe & Crowder 1974; Duchi et al. 2008 (ICML), figure 1: with u sorted downwards,
    ``ρ = max{k: k u_k > Σ_{i≤k} u_i − 1}`` and ``θ = (Σ_{i≤ρ} u_i − 1)/ρ``.

    Args:
        point: (K,)

    Returns:
        (K,)

    Example:
        >>> onto_simplex(np.array([0.5, 0.5, 3.0])).tolist(), onto_simplex(np.array([0.25, 0.75])).tolist()
        ([0.0, 0.0, 1.0], [0.25, 0.75])
    """
    point = point - point.max()  # a common shift changes nothing, and beside 1e17 the 1 of Σw = 1 would be lost
    downwards = np.sort(point)[::-1]  # (K,)
    excess = np.cumsum(downwards) - 1  # (K,)
    last = int(np.flatnonzero(downwards * np.arange(1, len(point) + 1) > excess)[-1])
    return np.maximum(point - excess[last] / (last + 1), 0.0)


def softmax(logits: Array) -> Array:
    """``w_i = e^{x_i}/Σ e^{x_j}``, without overflow.

    Args:
        logits: x (K,).

    Returns:
        (K,)

    Example:
        >>> softmax(np.array([1000.0, 1000.0])).tolist()
        [0.5, 0.5]
    """
    powers = np.exp(logits - logits.max())  # (K,)
    return powers / powers.sum()
