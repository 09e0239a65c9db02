"""How much of a gradient is signal, and how near to zero a cosine has to lie to be nothing else than noise."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from accord.conflict import cosine
from accord.conflict.entries import Array
from accord.noise.intervals import mean, quantiles, totals
from accord.noise.parts import split


class Signal(NamedTuple):
    """The signal in each task's gradient ``(..., K)``.

    Args:
        value: estimated ``‖E g_i‖²``; may come out below zero where there is none.
        low: lower end of its interval; above zero means identifiable.
        high: upper end.
        ratio: signal to noise of one half-batch, ``‖E g_i‖² / E‖g_i - E g_i‖²``; 0 where no signal was found.
    """

    value: Array
    low: Array
    high: Array
    ratio: Array


def signal(gramians: Any, level: float = 0.95, block: int = 1) -> Signal:
    """Split-half signal of each task: ``D_i = mean a_i·b_i``, and its ratio to the noise ``mean ‖g_i‖² - D_i``.

    A raw cosine of gradients with signal-to-noise ratios ``q_i, q_j`` and independent noise reads about
    ``sqrt(q_i / (1 + q_i) · q_j / (1 + q_j))`` times the cosine without noise: with a ratio of 1, one half of it.

    Args:
        gramians: (T, ..., 2K, 2K), see ``split``.
        level: of the interval.
        block: consecutive draws that may depend on each other.

    Returns:
        (..., K) each; NaN for a task that never took part.

    Raises:
        AccordError: for Gramians of another shape.

    Source:
        Accord's own definition.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> rows = np.eye(1, 100) + draw.normal(size=(500, 2, 100)) / 10  # ‖signal‖² = 1 = E‖noise‖²
        >>> found = signal(rows @ rows.swapaxes(1, 2))
        >>> round(float(found.ratio[0]), 1), bool(found.low[0] > 0)
        (1.0, True)
    """
    parts = split(gramians)
    own = np.einsum("...ii->...i", parts.across)  # (T, ..., K)
    found = mean(own, parts.here, level, block)
    whole = np.einsum("...ii->...i", parts.first + parts.second) / 2  # (T, ..., K)
    noise = totals(whole, parts.here, block).mean - found.value  # (..., K)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(noise > 0, np.maximum(found.value, 0.0) / noise, np.where(found.value > 0, np.inf, np.nan))
    return Signal(*found, ratio)


def band(gramians: Any, level: float = 0.95) -> Array:
    """The band ``|cos| < ε`` in which the raw cosine of one half-batch cannot be told from zero.

    The cosines of the two halves of a draw differ by noise alone, so ``(s_a - s_b)² / 2`` estimates the variance of
    one of them, also while the training moves on. ``ε`` is Student's quantile times the root of its mean over T draws.

    Args:
        gramians: (T, ..., 2K, 2K), see ``split``.
        level: share of orthogonal draws that fall into the band.

    Returns:
        (..., K, K) half-widths, at most 1; NaN on the diagonal and where the pair never took part. A batch of twice
        the size has a narrower band: about ``1/√2`` of it where the signal is clear, the same where all is noise.

    Raises:
        AccordError: for Gramians of another shape.

    Source:
        Accord's own definition.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> rows = draw.normal(size=(1000, 4, 100))  # noise alone in 100 dimensions: cosines of about 1/10
        >>> round(float(band(rows @ rows.swapaxes(1, 2))[0, 1]), 1)
        0.2
    """
    parts = split(gramians)
    off = (cosine(parts.first) - cosine(parts.second)) ** 2 / 2  # (T, ..., K, K)
    found = totals(off, parts.pairs, 1)
    count = found.n.sum(0)
    # the mean of the difference is known to be zero: no degree of freedom is lost
    width = np.minimum(quantiles(level, count) * np.sqrt(found.mean), 1.0)
    tasks = np.arange(width.shape[-1])
    width[..., tasks, tasks] = np.nan
    return width
