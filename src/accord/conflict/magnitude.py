"""Does one gradient drown the others? Norm ratios, magnitude similarity, dominance and priority."""

from __future__ import annotations

from typing import Any

import numpy as np

from accord.conflict.direction import in_conflict
from accord.conflict.entries import Array, norms


def _lengths(gramians: Any) -> Array:
    """(..., K) norms, NaN for undefined tasks."""
    length = norms(gramians)
    return np.where(length > 0, length, np.nan)


def magnitude_similarity(gramians: Any) -> Array:
    """Gradient magnitude similarity of each pair (GMS): ``2 n_i n_j / (n_i² + n_j²)``.

    Args:
        gramians: (..., K, K).

    Returns:
        (..., K, K) in (0, 1]: 1 for equal norms, small for imbalance; NaN where a gradient is undefined.

    Source:
        Yu et al. 2020, https://arxiv.org/abs/2001.06782, definition 2.

    Example:
        >>> magnitude_similarity([[1.0, 0.0], [0.0, 9.0]])
        array([[1. , 0.6],
               [0.6, 1. ]])
    """
    length = _lengths(gramians)
    left, right = length[..., :, None], length[..., None, :]
    ratio = np.minimum(left, right) / np.maximum(left, right)  # (..., K, K), never overflows
    return 2 * ratio / (1 + ratio**2)


def norm_ratio(gramians: Any) -> Array:
    """How far the norms are apart: ``max_i n_i / min_i n_i``.

    Args:
        gramians: (..., K, K).

    Returns:
        (...) at least 1; NaN with fewer than two defined gradients.

    Source:
        Accord's own definition.

    Example:
        >>> float(norm_ratio([[1.0, 0.0], [0.0, 9.0]]))
        3.0
    """
    length = _lengths(gramians)
    largest = np.fmax.reduce(length, axis=-1, initial=np.nan)
    smallest = np.fmin.reduce(length, axis=-1, initial=np.nan)
    pairs = (~np.isnan(length)).sum(axis=-1) > 1
    return np.where(pairs, largest / smallest, np.nan)


def dominance(gramians: Any) -> Array:
    """Each task's share of the summed lengths: ``n_i / Σ_j n_j``.

    Args:
        gramians: (..., K, K).

    Returns:
        (..., K), adds up to 1 over defined tasks; NaN for the others.

    Source:
        Accord's own definition.

    Example:
        >>> dominance([[1.0, 0.0], [0.0, 9.0]])
        array([0.25, 0.75])
    """
    length = _lengths(gramians)
    return length / np.nansum(length, axis=-1, keepdims=True)


def priority(gramians: Any) -> Array:
    """Who would win the conflict: ``1{n_i > n_j for all j ≠ i}`` on entries with a conflict, NaN on all others.

    Its mean over entries (steps, blocks) is the task priority index (TPI) ``rate(priority(G))``: the share of the
    conflicting entries in which task i has the largest norm. With two tasks this is the published index; equal
    norms give nobody the priority.

    Args:
        gramians: (..., K, K).

    Returns:
        (..., K) of 1, 0, and NaN where no pair conflicts or the task is undefined.

    Source:
        arXiv 2412.08590 for two tasks; the largest norm for more.

    Example:
        >>> priority([[[1.0, -1.0], [-1.0, 9.0]], [[1.0, 1.0], [1.0, 9.0]]])
        array([[ 0.,  1.],
               [nan, nan]])
    """
    length = _lengths(gramians)
    largest = np.fmax.reduce(length, axis=-1, keepdims=True, initial=np.nan)
    first = (length == largest).astype(np.float64)
    first = np.where(first.sum(axis=-1, keepdims=True) > 1, 0.0, first)  # a draw
    conflict = (in_conflict(gramians) == 1).any(axis=-1, keepdims=True)
    return np.where(conflict & ~np.isnan(length), first, np.nan)
