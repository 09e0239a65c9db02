"""The cosine of the full-batch gradients, from small batches: split-half correction, its gate and its interval."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accord.conflict import cosine
from accord.conflict.entries import Array, rate
from accord.noise.intervals import Totals, mean, ratio, totals
from accord.noise.parts import Halves, split


class Corrected(NamedTuple):
    """Corrected cosines ``(..., K, K)``; NaN where they are not identifiable.

    Args:
        value: the cosine without sampling noise, in [-1, 1].
        low: lower end of its interval.
        high: upper end.
        identifiable: whether both tasks have a signal above the noise, so that there is an angle to speak of.
        raw: the mean cosine within a half-batch, noise and all, for comparison.
    """

    value: Array
    low: Array
    high: Array
    identifiable: NDArray[np.bool_]
    raw: Array


def corrected_cosine(gramians: Any, level: float = 0.95, block: int = 1) -> Corrected:
    """The cosine of the expected gradients: ``c_ij = N_ij / sqrt(D_i D_j)``, means first, division last.

    With ``a_i, b_i`` the gradients of task i on disjoint halves, ``N_ij = mean (a_i·b_j + a_j·b_i) / 2`` and
    ``D_i = mean a_i·b_i``. A raw cosine divides by lengths that are mostly noise and so reads too near to zero; here
    noise of different halves is multiplied, and its mean is zero. The price is variance, hence the gate: a pair is
    identifiable only if ``D_i`` and ``D_j`` lie above zero by their own intervals, and Fieller's interval is bounded.
    Everything else is NaN: "not identifiable" is not "orthogonal".

    The interval is Fieller's for ``N / M`` with ``M_t = (r a_i·b_i + a_j·b_j / r) / 2`` and ``r = sqrt(D_j / D_i)``,
    whose mean is ``sqrt(D_i D_j)``. Over steps of a training the result is the cosine between means over that window,
    weighted by squared lengths: use windows in which the gradients do not change much, and ``block`` above 1.

    Args:
        gramians: (T, ..., 2K, 2K), see ``split``.
        level: of the interval.
        block: consecutive draws that may depend on each other (steps of a training); 1 for independent draws.

    Returns:
        (..., K, K) each; 1 on the diagonal where a task has a signal.

    Raises:
        AccordError: for Gramians of another shape.

    Source:
        Spearman's correction for attenuation, 1904, https://doi.org/10.2307/1412159, for vectors.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> truth = np.array([[1.0, 0.0], [-0.6, 0.8]]) @ np.eye(2, 50)  # cosine -0.6
        >>> rows = np.concatenate([truth, truth]) + draw.normal(size=(400, 4, 50)) / 4  # noise longer than the truth
        >>> found = corrected_cosine(rows @ rows.swapaxes(1, 2))
        >>> round(float(found.value[0, 1]), 1), round(float(found.raw[0, 1]), 1), bool(found.identifiable.all())
        (-0.6, -0.1, True)
    """
    parts = split(gramians)
    across = _scaled(parts)
    found = ratio(*_fractions(across, parts, block), level)
    own = np.einsum("...ii->...i", across)  # (T, ..., K)
    signal = mean(own, parts.here, level, block).low > 0  # (..., K), False without an interval
    fine = signal[..., :, None] & signal[..., None, :] & np.isfinite(found.low)
    value, low, high = (np.where(fine, np.clip(part, -1.0, 1.0), np.nan) for part in found)
    tasks = np.arange(own.shape[-1])
    for part in (value, low, high):
        part[..., tasks, tasks] = np.where(signal, 1.0, np.nan)
    fine[..., tasks, tasks] = signal
    return Corrected(value, low, high, fine, _raw(parts))


def _scaled(parts: Halves) -> Array:
    """(T, ..., K, K) products across the halves in units of each task's longest gradient, so that squares are safe."""
    longest = np.sqrt(np.einsum("...ii->...i", np.maximum(parts.first, parts.second)).max(axis=0))  # (..., K)
    unit = np.where(longest > 0, longest, 1.0)
    return parts.across / unit[..., :, None] / unit[..., None, :]


def _fractions(across: Array, parts: Halves, block: int) -> tuple[Totals, Totals]:
    """Block sums of ``N`` and of the linearised ``sqrt(D_i D_j)``, over the draws in which the pair takes part."""
    pairs = parts.pairs
    top = totals((across + across.swapaxes(-1, -2)) / 2, pairs, block)
    own = np.einsum("...ii->...i", across)  # (T, ..., K)
    left = totals(np.broadcast_to(own[..., :, None], pairs.shape), pairs, block)
    right = totals(np.broadcast_to(own[..., None, :], pairs.shape), pairs, block)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.sqrt(right.mean / left.mean)  # (..., K, K); NaN if one of them is negative
        return top, Totals((left.x * r + right.x / r) / 2, top.n)


def _raw(parts: Halves) -> Array:
    """(..., K, K) mean over draws and both halves of the cosine within a half."""
    both = np.stack([cosine(parts.first), cosine(parts.second)])  # (2, T, ..., K, K)
    return rate(both, axis=(0, 1)).value
