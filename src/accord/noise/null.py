"""How often would a task be said to conflict with itself? The null that an incidence of conflict is held against."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accord.conflict.entries import Array
from accord.noise.intervals import Estimate, blocks, mean, totals
from accord.noise.parts import Halves, split


class Excess(NamedTuple):
    """Incidence of conflict beyond the same-task null, ``(..., K, K)``; NaN on the diagonal.

    Args:
        value: observed minus null.
        low: lower end of its interval.
        high: upper end.
        observed: share of draws in which the two gradients, of different halves, point against each other.
        null: the mean of the two tasks' own nulls.
    """

    value: Array
    low: Array
    high: Array
    observed: Array
    null: Array


def null_incidence(gramians: Any, level: float = 0.95, block: int = 1) -> Estimate:
    """How often a task "conflicts" with itself: the share of draws with ``a_i · b_i < 0``.

    The expected gradient of a task never conflicts with itself, so this is sampling noise alone. It is near 0 where a
    batch shows the gradient clearly and near one half where it shows nothing else than noise.

    Args:
        gramians: (T, ..., 2K, 2K), see ``split``.
        level: of the interval.
        block: consecutive draws that may depend on each other.

    Returns:
        (..., K) with interval.

    Raises:
        AccordError: for Gramians of another shape.

    Source:
        Accord's own definition.

    Example:
        >>> rows = np.array([[[1.0], [1.0]], [[1.0], [-0.1]], [[1.0], [2.0]], [[1.0], [0.5]]])  # a, b in four draws
        >>> null_incidence(rows @ rows.swapaxes(1, 2)).value
        array([0.25])
    """
    parts = split(gramians)
    return _shares(_itself(parts), parts.here, level, block, lowest=0.0)


def excess_incidence(gramians: Any, level: float = 0.95, block: int = 1) -> Excess:
    """Conflict beyond noise: how much more often two tasks conflict than each does with itself.

    ``mean 1{a_i·b_j < 0}`` over draws and both crossings, minus the mean of the two tasks' ``null_incidence``. Both
    compare gradients of different halves, so that both carry the same noise. The pair's *expected* gradients agree
    with an excess near 0 only if the noise is small; two orthogonal tasks have an incidence of one half at any noise.
    So an excess above 0 says that the pair is told apart from agreement, not that it conflicts: for the sign ask
    ``corrected_cosine``, and see ``observed``, which lies above one half for conflict alone.

    Args:
        gramians: (T, ..., 2K, 2K), see ``split``.
        level: of the interval.
        block: consecutive draws that may depend on each other.

    Returns:
        (..., K, K) each.

    Raises:
        AccordError: for Gramians of another shape.

    Source:
        Accord's own definition.

    Example:
        >>> rows = np.array([[1.0], [-1.0], [1.0], [-1.0]]) * np.ones((50, 1, 1))  # opposed, and without noise
        >>> found = excess_incidence(rows @ rows.swapaxes(1, 2))
        >>> found.value[0, 1], found.null[0, 1], round(float(found.low[0, 1]), 2)
        (np.float64(1.0), np.float64(0.0), 0.93)
    """
    parts = split(gramians)
    pairs = parts.pairs.copy()
    tasks = np.arange(pairs.shape[-1])
    pairs[..., tasks, tasks] = False
    against = parts.across < 0  # (T, ..., K, K)
    seen = (against.astype(np.float64) + against.swapaxes(-1, -2)) / 2
    itself = _itself(parts)
    null = (itself[..., :, None] + itself[..., None, :]) / 2
    found = _shares(seen - null, pairs, level, block, lowest=-1.0)
    means = (totals(part, pairs, block).mean for part in (seen, null))
    return Excess(*found, *means)


def _itself(parts: Halves) -> Array:
    """(T, ..., K) 1 where a task's two halves point against each other."""
    return (np.einsum("...ii->...i", parts.across) < 0).astype(np.float64)


def _shares(values: Array, there: NDArray[np.bool_], level: float, block: int, lowest: float) -> Estimate:
    """Mean and interval of shares, or of differences of shares.

    Draws that all say the same have no scatter, but a next one might differ: the interval reaches at least as far as
    the exact one for "never in U blocks", ``1 - ((1 - level) / 2)^(1 / U)``.
    """
    found = mean(values, there, level, block)
    count = blocks(totals(values, there, block))
    least = 1 - ((1 - level) / 2) ** (1 / np.maximum(count, 1))
    half = np.fmax(found.high - found.value, least)  # the scatter of one block alone is NaN
    low, high = np.maximum(found.value - half, lowest), np.minimum(found.value + half, 1.0)
    return Estimate(found.value, low, high)
