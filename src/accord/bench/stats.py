"""Statistics over seeds: means with intervals, paired differences, Delta-m. Pure functions on numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean over seeds with its interval.

    Args:
        mean: NaN without values.
        low: lower end; NaN with fewer than two values, which say nothing about the spread.
        high: upper end.
        seeds: number of values.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def half(self) -> float:
        """Half the width: the number behind ±."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        mean, low, high = map(_short, self[:3])
        return mean if math.isnan(self.low) else f"{mean} [{low}, {high}]"


def _short(value: float) -> str:
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"  # 3146, not 3.15e+03


def interval(values: Iterable[float], level: float = LEVEL) -> Interval:
    """Student's t interval of a mean: ``mean ± t s / √n``. NaN is left out.

    With the usual three to five seeds a bootstrap interval is far too narrow; this one is exact for normal values.

    Args:
        values: one per seed.
        level: of confidence.

    Example:
        >>> str(interval([1.0, 2.0, 3.0]))
        '2 [-0.484, 4.48]'
    """
    from scipy.stats import t as student

    known = np.array([value for value in values if not math.isnan(value)], dtype=np.float64)
    count = len(known)
    if not count:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(known.mean())
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(student.ppf((1 + level) / 2, count - 1)) * float(known.std(ddof=1)) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def paired(values: Mapping[int, float], reference: Mapping[int, float], level: float = LEVEL) -> Interval:
    """The mean difference to a reference with the same seed, hence the same data and initial parameters.

    Args:
        values: by seed.
        reference: by seed; seeds that only one of both has are left out.
        level: of confidence.

    Example:
        >>> paired({0: 1.0, 1: 2.0, 2: 9.0}, {0: 0.5, 1: 1.5}).mean
        0.5
    """
    return interval((values[seed] - reference[seed] for seed in values if seed in reference), level)


def gain(value: float, reference: float, higher_is_better: bool) -> float:
    """The relative improvement over a reference: ``± (M - R) / |R|``, positive where better; NaN if R is 0.

    Example:
        >>> gain(0.75, 0.5, True), gain(0.75, 0.5, False)
        (0.5, -0.5)
    """
    if reference == 0:
        return math.nan
    return (value - reference) / abs(reference) * (1 if higher_is_better else -1)


Measures = Mapping[str, float] | Mapping[str, Mapping[str, float]]  # by task, or by task and measure


def gains(values: Measures, single: Measures, higher: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """``gain`` of every measure of every task over a reference; NaN where the reference lacks it.

    Args:
        values: by task, or by task and measure.
        single: the same of the reference.
        higher: whether higher is better, by task, or by task and measure.

    Returns:
        By task and measure; a task with one plain number has one measure, named "".

    Example:
        >>> gains({"depth": {"abs": 3.0, "rel": 1.0}}, {"depth": {"abs": 2.0}}, {"depth": {"abs": False, "rel": False}})
        {'depth': {'abs': -0.5, 'rel': nan}}
    """
    found = {}
    for task, value in values.items():
        own, other, up = (
            part if isinstance(part, Mapping) else {"": part} for part in (value, single.get(task, {}), higher[task])
        )
        found[task] = {name: gain(own[name], other.get(name, math.nan), bool(up[name])) for name in own}
    return found


def delta_m(values: Measures, single: Measures, higher: Mapping[str, Any], flat: bool = False) -> float:
    """Relative improvement over training each task alone, in one number.

    ``Δm = 1/K Σ_i 1/n_i Σ_j (-1)^{l_ij} (M_ij - S_ij) / |S_ij|`` with ``l_ij = 1`` where lower is better: every task
    counts alike. Flat, it is the plain mean over all ``Σ_i n_i`` measures, and a task with more measures counts more;
    many published tables are flat, and many print the drop, which is ``-100 Δm``.

    Args:
        values: by task, or by task and measure.
        single: the same of each task trained alone.
        higher: whether higher is better, by task, or by task and measure.
        flat: the mean over all measures instead of over tasks.

    Returns:
        A share (0.01 is one per cent), positive where better; NaN if a measure is missing in ``single``.

    Source:
        Maninis et al. 2019, https://arxiv.org/abs/1904.08918, equation 4; several measures per task as in Vandenhende
        et al. 2021, https://arxiv.org/abs/2004.13379.

    Example:
        >>> delta_m({"a": 0.75, "b": 2.0}, {"a": 0.5, "b": 4.0}, {"a": True, "b": False})
        0.5
        >>> one, two = {"a": {"x": 1.5, "y": 1.5}, "b": {"z": 1.0}}, {"a": {"x": 1.0, "y": 1.0}, "b": {"z": 2.0}}
        >>> up = {"a": {"x": True, "y": True}, "b": {"z": True}}
        >>> delta_m(one, two, up), round(delta_m(one, two, up, flat=True), 3)
        (0.0, 0.167)
    """
    parts = [list(part.values()) for part in gains(values, single, higher).values()]
    if flat:
        parts = [[value] for part in parts for value in part]
    return sum(sum(part) / len(part) for part in parts) / len(parts)


def verdict(difference: Interval) -> str:
    """In words what an interval of a difference says: ``better``, ``worse``, or neither.

    Example:
        >>> verdict(Interval(1.0, 0.5, 1.5, 3)), verdict(Interval(1.0, -0.5, 2.5, 3))
        ('better', 'no difference beyond seed noise')
    """
    if difference.low > 0:
        return "better"
    if difference.high < 0:
        return "worse"
    return "no difference beyond seed noise" if difference.seeds > 1 else "not known from one seed"
