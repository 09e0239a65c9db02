"""Statistics over seeds: means with intervals, paired differences, Delta-m. Pure functions on numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

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
        return f"{self.mean:.3g}" if math.isnan(self.low) else f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


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


def delta_m(values: Mapping[str, float], single: Mapping[str, float], higher: Mapping[str, bool]) -> float:
    """Mean over tasks of the relative improvement over training each task alone.

    ``Δm = mean_i (-1)^{l_i} (M_i - S_i) / S_i`` with ``l_i = 1`` where lower is better.

    Args:
        values: the metric by task.
        single: the metric of each task trained alone.
        higher: whether higher is better, by task.

    Returns:
        A share (0.01 is one per cent); NaN if a task is missing in ``single``.

    Source:
        Maninis et al. 2019, https://arxiv.org/abs/1904.08918, equation 4.

    Example:
        >>> delta_m({"a": 0.75, "b": 2.0}, {"a": 0.5, "b": 4.0}, {"a": True, "b": False})
        0.5
    """
    gains = [gain(values[task], single.get(task, math.nan), higher[task]) for task in values]
    return sum(gains) / len(gains)


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
