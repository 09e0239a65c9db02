"""The resolution at which times were recorded."""

from __future__ import annotations

import numpy as np

from accord.tpp.events import Events, Floats, Integers
from accord.tpp.inner import inner_gaps, within

DECIMALS = 6  # finest power of ten that is tried
DIVISORS = 20  # the smallest gap may be up to this many units of the grid
FEW = 10  # gaps; fewer lie on a common grid by chance


def tick(events: Events) -> float | None:
    """The unit of the grid that all times lie on, in the unit of the events; None: they look continuous.

    The first rule that fits decides. Let g be the smallest positive gap within a sequence.

    1. All times are whole multiples of ``10**-j``, j = 0..6, to rounding: the tick is the largest common divisor of
       their gaps, so whole seconds that are all full minutes give 60.
    2. At least 99 % of the gaps below ``1000 u`` lie within ``0.05 u`` of a multiple of ``u = g / k``, for the smallest
       k = 1..20: the tick is u. This finds grids whose times were rescaled.

    Fewer than ten gaps show no divisor and no grid beyond the power of ten.

    Args:
        events: as recorded; ``events.tick`` is not looked at.

    Source:
        specification of this package, section 11, which has k = 1 and no common divisor. The smallest gap of a set need
        not be one unit: milliseconds in two published sets show as 2 ms and 13 ms, minutes as 60 s.

    Example:
        >>> tick(Events.of([[0.5, 0.75, 3.25]]))
        0.01
        >>> minutes = Events.of([60.0 * np.arange(20) ** 2])
        >>> tick(minutes), tick(minutes.rescaled(1 / 7)) == 60 / 7
        (60.0, True)
        >>> tick(Events.of([np.random.default_rng(0).exponential(size=99).cumsum()])) is None
        True
    """
    gaps = inner_gaps(events)
    gaps = np.sort(gaps[gaps > 0])
    if gaps.size == 0:
        return None
    for decimals in range(DECIMALS + 1):
        whole = _whole(events.time, 10.0**decimals)
        if whole is not None:
            steps = np.diff(whole)[within(events)]
            return float(np.gcd.reduce(steps)) / 10.0**decimals if gaps.size >= FEW else 10.0**-decimals
    return _grid(gaps)


def _whole(time: Floats, factor: float) -> Integers | None:
    """``time * factor`` as whole numbers, or None if it is not integral."""
    scaled = time * factor
    rounding = np.finfo(np.float64).eps * np.abs(scaled)
    # Beyond this size neighbouring floats lie so far apart that being integral proves nothing.
    if rounding.max() > 0.05 or (np.abs(scaled - np.rint(scaled)) > rounding).any():
        return None
    return np.rint(scaled).astype(np.int64)


def _grid(gaps: Floats) -> float | None:
    """Rule 2, for sorted positive gaps."""
    for k in range(1, DIVISORS + 1):
        unit = gaps[0] / k
        ratio = gaps[: np.searchsorted(gaps, 1000 * unit)] / unit
        if ratio.size >= FEW and np.mean(np.abs(ratio - np.rint(ratio)) <= 0.05) >= 0.99:
            return float(unit)
    return None
