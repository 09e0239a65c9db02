"""Intervals of means and of ratios of means over T draws, in blocks of consecutive ones. Letters: `U` blocks."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accord.conflict.entries import Array
from accord.errors import AccordError


class Estimate(NamedTuple):
    """An estimate with its interval; NaN where it is undefined, limits NaN where there are fewer than two blocks."""

    value: Array
    low: Array
    high: Array


class Totals(NamedTuple):
    """Sums over blocks of consecutive draws: what intervals are made of.

    Args:
        x: (U, ...) sums of the values that take part.
        n: (U, ...) how many they are.
    """

    x: Array
    n: Array

    @property
    def mean(self) -> Array:
        """(...) mean over all draws that take part; NaN without one."""
        with np.errstate(invalid="ignore"):
            return self.x.sum(0) / self.n.sum(0)

    @property
    def residuals(self) -> Array:
        """(U, ...) what each block lies above the mean, in units of the mean: they sum to zero."""
        with np.errstate(invalid="ignore"):
            return (self.x - self.mean * self.n) / self.n.sum(0)


def totals(values: Array, there: NDArray[np.bool_], block: int) -> Totals:
    """Sums of ``values (T, ...)`` over blocks of ``block`` consecutive draws, the last one as long as it comes out.

    Raises:
        AccordError: for a block of no draws.

    Example:
        >>> found = totals(np.array([1.0, 3.0, 5.0]), np.array([True, True, False]), 2)
        >>> found.x.tolist(), found.n.tolist(), float(found.mean)
        ([4.0, 0.0], [2.0, 0.0], 2.0)
    """
    if block < 1:
        raise AccordError(f"block={block} is out of range; expected at least 1 draw in a block.")
    starts = np.arange(0, len(values), block)
    kept = np.where(there, values, 0.0)
    return Totals(np.add.reduceat(kept, starts, axis=0), np.add.reduceat(there.astype(np.float64), starts, axis=0))


def covariance(one: Totals, other: Totals) -> Array:
    """(...) covariance of two means, from how blocks scatter; NaN with fewer than two blocks."""
    count = blocks(one)
    with np.errstate(invalid="ignore", divide="ignore"):
        wide = np.where(count > 1, count / np.maximum(count - 1, 1), np.nan)
    return wide * (one.residuals * other.residuals).sum(0)


def blocks(found: Totals) -> Array:
    """(...) number of blocks with anything in them."""
    return np.asarray((found.n > 0).sum(0), dtype=np.float64)


def quantiles(level: float, degrees: Array) -> Array:
    """(...) two-sided Student t quantile of each number of degrees of freedom; NaN for none."""
    if not 0 < level < 1:
        raise AccordError(f"level={level} is out of range; expected a share between 0 and 1, such as 0.95.")
    out = np.full(np.shape(degrees), np.nan)
    for v in np.unique(degrees[degrees >= 1]).tolist():
        out[degrees == v] = t_quantile(level, int(v))
    return out


@lru_cache(maxsize=256)
def t_quantile(level: float, degrees: int) -> float:
    """Student's t below whose magnitude the share ``level`` lies, by integration and halving.

    With ``t = sqrt(v) tan u`` the density is ``c cos(u)^(v-1)``, smooth on a bounded interval.

    Example:
        >>> round(t_quantile(0.95, 4), 4)
        2.7764
    """
    nodes, weights = np.polynomial.legendre.leggauss(96)
    log_c = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(math.pi) / 2

    def inside(t: float) -> float:
        u = math.atan(t / math.sqrt(degrees)) / 2 * (nodes + 1)
        density = np.exp(log_c + (degrees - 1) * np.log(np.cos(u)))
        return 2 * float(weights @ density) * math.atan(t / math.sqrt(degrees)) / 2

    low, high = 0.0, 1.0
    while inside(high) < level:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < level else (low, middle)
    return (low + high) / 2


def mean(values: Array, there: NDArray[np.bool_], level: float, block: int) -> Estimate:
    """Mean over draws with Student's interval over blocks.

    Example:
        >>> found = mean(np.array([1.0, 2.0, 3.0]), np.ones(3, bool), 0.95, 1)
        >>> [round(float(x), 2) for x in found]
        [2.0, -0.48, 4.48]
    """
    found = totals(values, there, block)
    half = quantiles(level, blocks(found) - 1) * np.sqrt(covariance(found, found))
    return Estimate(found.mean, found.mean - half, found.mean + half)


def ratio(above: Totals, below: Totals, level: float) -> Estimate:
    """Fieller's interval of a ratio of means: all c for which ``mean(x) - c mean(y)`` is not significantly off zero.

    The limits solve ``(x - c y)² = t² (V_xx - 2 c V_xy + c² V_yy)``. They are NaN where ``y`` itself may be zero: then
    every ratio is possible, or nearly.

    Source:
        Fieller 1954, https://doi.org/10.1111/j.2517-6161.1954.tb00159.x.

    Example:
        >>> every = np.ones(4, bool)
        >>> above, below = (totals(np.array(x), every, 1) for x in ([2.0, 4.1, 6.0, 7.9], [1.0, 2.0, 3.0, 4.0]))
        >>> [round(float(x), 2) for x in ratio(above, below, 0.9)]
        [2.0, 1.97, 2.08]
    """
    x, y = above.mean, below.mean
    square = quantiles(level, blocks(above) - 1) ** 2
    xx, xy, yy = (square * covariance(*pair) for pair in ((above, above), (above, below), (below, below)))
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b, c = y**2 - yy, x * y - xy, x**2 - xx
        bounded = a > 0
        root = np.sqrt(np.maximum(b**2 - a * c, 0.0))  # never below zero but for rounding: x / y always is inside
        low, high = (np.where(bounded, (b + sign * root) / a, np.nan) for sign in (-1, 1))
        return Estimate(x / y, low, high)
