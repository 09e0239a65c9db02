"""Whose step is it? Each task's share of the combined gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from accord.conflict.entries import Array, array, clean, defined


def update_share(gramians: Any, weights: Any = None) -> Array:
    """Each task's share of the combined gradient ``d = Σ_j w_j g_j``: ``w_i g_i · d / ‖d‖²``.

    Shares sum to 1. Unlike ``dominance``, which counts lengths alone, a share sees the weights and the angles: it is
    negative where the weighted gradient points against the step that it is part of, and then others are above 1.

    Args:
        gramians: (..., K, K).
        weights: (..., K), as ``Step.weights``; by default the plain sum. A NaN is a task that took no part.

    Returns:
        (..., K); NaN for a task without a gradient or a weight, and where d is 0.

    Source:
        Accord's own definition.

    Example:
        >>> update_share([[1.0, -1.0], [-1.0, 4.0]]).tolist()  # d² = 3
        [0.0, 1.0]
        >>> update_share([[1.0, 0.0], [0.0, 9.0]], [3.0, 1.0]).tolist()
        [0.5, 0.5]
    """
    kept, there = clean(gramians), defined(gramians)
    weighted = np.ones(there.shape) if weights is None else np.broadcast_to(array(weights), there.shape)
    there = there & np.isfinite(weighted)
    w = np.where(there, weighted, 0.0)  # (..., K)
    # the largest weighted length is scaled to 1: squares of tiny or huge ones would under- or overflow
    size = np.abs(w) * np.sqrt(np.einsum("...ii->...i", kept))  # (..., K)
    most = size.max(axis=-1, initial=0.0, keepdims=True)  # (..., 1)
    w = w / np.where(most > 0, most, 1.0)
    parts = w * np.einsum("...ij,...j->...i", kept, w)  # (..., K), w_i g_i · d
    whole = parts.sum(axis=-1, keepdims=True)  # (..., 1)
    known = there & (whole > 1e-12)  # rounding of sums of terms of size 1: gradients that cancel have no shares
    return np.where(known, parts / np.where(whole > 1e-12, whole, 1.0), np.nan)
