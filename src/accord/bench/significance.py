"""Is a difference more than seed noise: paired tests, correction for many tests, and what few seeds can ever show.

Everything takes the differences between two methods, one per seed, ``(n,)``; NaN is left out. Which test is used when:

- The verdicts use the paired t test: exact for normal differences at any n, and the only one here that can reject with
  three seeds.
- The sign-flip test needs no normality. Its p-value cannot be below ``2 / 2^n``: 0.25 with three seeds, 0.0625 with
  five, so that below six seeds it can never call a difference real. It is reported beside the t test.
- Across problems, where the differences have different spreads, it is applied to signed ranks: Wilcoxon's test.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accord.bench.stats import LEVEL, Interval

Array = NDArray[np.float64]
POWER = 0.8  # the usual chance with which a difference shall be found
ENUMERATED = 16  # seeds up to which all 2^n signs are tried
MOST = 1000  # seeds beyond which nobody counts


def paired_t(differences: Iterable[float]) -> float:
    """The two-sided p-value of Student's paired t test; NaN with fewer than two differences.

    Example:
        >>> round(paired_t([1.0, 2.0, 3.0]), 4)
        0.0742
    """
    from scipy.stats import t as student

    known = _known(differences)  # (n,)
    if len(known) < 2:
        return math.nan
    spread, mean = float(known.std(ddof=1)), float(known.mean())
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * student.sf(abs(mean) / spread * math.sqrt(len(known)), len(known) - 1))


def sign_flip(differences: Iterable[float]) -> float:
    """The two-sided p-value of the sign-flip test: were both methods alike, each difference could have either sign.

    ``p = share of the 2^n choices of signs whose |mean| is at least the observed one``; beyond 16 seeds, of 65 536
    choices that are drawn with a fixed seed, the observed one among them.

    Example:
        >>> sign_flip([1.0, 2.0, 3.0])  # the smallest that three seeds can give
        0.25
    """
    known = _known(differences)
    count = len(known)
    if not count:
        return math.nan
    if count <= ENUMERATED:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=count)))  # (2^n, n)
    else:
        signs = np.random.default_rng(0).choice((1.0, -1.0), size=(2**ENUMERATED, count))
        signs[0] = 1.0
    sums = np.abs(signs @ known)
    return float(np.mean(sums >= sums[0] * (1 - 1e-12)))  # rounding must not part what is equal


def smallest_p(count: int) -> float:
    """The smallest p-value that a sign-flip or Wilcoxon test of so many differences can give: ``2 / 2^n``.

    Example:
        >>> smallest_p(3), smallest_p(6)
        (0.25, 0.03125)
    """
    return 2.0 ** (1 - count) if count else 1.0


def wilcoxon(differences: Iterable[float]) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test: the sign-flip test of the signed ranks of ``|d|``.

    Ties share their mean rank and zeros are left out; both are enumerated, so that no table or normal approximation
    is needed. 1 if nothing but zeros is there.

    Source:
        Demšar 2006, https://jmlr.org/papers/v7/demsar06a.html, section 3.1.3.

    Example:
        >>> wilcoxon([1.0, 2.0, 3.0, 4.0, 5.0, -0.5])
        0.0625
    """
    known = _known(differences)
    if not len(known):
        return math.nan
    known = known[known != 0]
    return sign_flip(np.sign(known) * midranks(np.abs(known))) if len(known) else 1.0


def midranks(values: Array) -> Array:
    """Ranks from 1 for the smallest, equal values sharing their mean rank: ``(n,) -> (n,)``.

    Example:
        >>> midranks(np.array([3.0, 1.0, 3.0]))
        array([2.5, 1. , 2.5])
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place], dtype=np.float64)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """P-values corrected for their number, by Holm's step-down procedure.

    The chance that luck alone puts one of them below 0.05 is then 5 % for all together, not for each.

    ``p'_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))``

    Args:
        p: by name; NaN is left out, neither counted nor returned.

    Source:
        Holm 1979, https://www.jstor.org/stable/4615733.

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    known = {name: value for name, value in p.items() if not math.isnan(value)}
    corrected, highest = {}, 0.0
    for place, name in enumerate(sorted(known, key=lambda name: known[name])):
        highest = max(highest, min(1.0, (len(known) - place) * known[name]))
        corrected[name] = highest
    return {name: corrected[name] for name in known}


def effect(differences: Iterable[float]) -> float:
    """The mean difference in its own standard deviations, ``J(n-1) mean / s``, with Hedges' correction for few values.

    ``J(m) = Γ(m/2) / (√(m/2) Γ((m-1)/2))``: 0.56 with three seeds, without which the effect is overstated. NaN with
    fewer than three, or without spread.

    Source:
        Hedges 1981, https://doi.org/10.3102/10769986006002107, equation 6e.

    Example:
        >>> round(effect([1.0, 2.0, 3.0]), 3)
        1.128
    """
    known = _known(differences)
    spread = float(known.std(ddof=1)) if len(known) > 2 else 0.0
    if spread == 0:
        return math.nan
    m = len(known) - 1
    correction = math.exp(math.lgamma(m / 2) - math.lgamma((m - 1) / 2)) / math.sqrt(m / 2)
    return correction * float(known.mean()) / spread


def power(size: float, count: int, level: float = LEVEL) -> float:
    """The chance that a paired t test of ``count`` seeds calls a true difference of ``size`` standard deviations real.

    Example:
        >>> round(power(1.0, 10), 2), round(power(1.0, 3), 2)
        (0.8, 0.18)
    """
    from scipy.stats import nct
    from scipy.stats import t as student

    df, centre = count - 1, abs(size) * math.sqrt(count)
    edge = float(student.ppf((1 + level) / 2, df))
    beyond = float(nct.sf(edge, df, centre))
    return beyond if math.isfinite(beyond) else 1.0  # the tail of large effects is out of the function's reach


def detectable(spread: float, count: int, chance: float = POWER, level: float = LEVEL) -> float:
    """The smallest true difference that so many seeds would find with this chance: what "no difference" leaves open.

    Args:
        spread: standard deviation of the paired differences.
        count: of seeds.
        chance: with which it shall be found.
        level: of the test's confidence.

    Returns:
        In the unit of ``spread``; NaN with fewer than two seeds.

    Example:
        >>> round(detectable(1.0, 3), 2), round(detectable(1.0, 10), 2)
        (3.26, 1.0)
    """
    from scipy.optimize import brentq

    if count < 2 or math.isnan(spread):
        return math.nan
    high = 1.0
    while power(high, count, level) < chance:
        high *= 2
    return spread * float(brentq(lambda size: power(size, count, level) - chance, 0.0, high))


def seeds_needed(difference: float, spread: float, chance: float = POWER, level: float = LEVEL) -> float:
    """About how many seeds would find a difference of this size with this chance; infinite beyond 1000.

    The spread is itself estimated from few seeds, so this is a rough number.

    Example:
        >>> seeds_needed(1.0, 1.0), seeds_needed(0.0, 1.0), seeds_needed(1.0, 0.0)
        (10, inf, 2)
    """
    if spread == 0:
        return 2 if difference else math.inf
    size = abs(difference) / spread
    if math.isnan(size) or power(size, MOST, level) < chance:
        return math.inf
    low, high = 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(size, middle, level) >= chance else (middle, high)
    return high


class Pooled(NamedTuple):
    """A mean over problems: its interval (``seeds`` counts all pairs), and the p-value of its being 0."""

    interval: Interval
    p: float


def pooled(groups: Sequence[Iterable[float]], level: float = LEVEL) -> Pooled:
    """The mean over these problems of the mean differences, whose spreads may differ.

    ``mean = 1/P Σ_p m_p,  se² = 1/P² Σ_p s_p²/n_p``, with Student's t at Welch and Satterthwaite's degrees of freedom.
    It speaks about these problems and new seeds; not about other problems, for which see ``wilcoxon``.

    Args:
        groups: the differences of each problem; those with fewer than two seeds are left out.
        level: of confidence.

    Source:
        Satterthwaite 1946, https://doi.org/10.2307/3002019.

    Example:
        >>> found = pooled([[1.0, 1.2, 0.8], [2.0, 2.5, 1.5]])
        >>> round(found.interval.mean, 2), found.interval.seeds, found.p < 0.05
        (1.5, 6, True)
    """
    from scipy.stats import t as student

    known = [values for values in map(_known, groups) if len(values) > 1]
    if not known:
        return Pooled(Interval(math.nan, math.nan, math.nan, 0), math.nan)
    mean = float(np.mean([values.mean() for values in known]))
    parts = [float(values.var(ddof=1)) / len(values) / len(known) ** 2 for values in known]
    error, count = math.sqrt(sum(parts)), sum(map(len, known))
    if error == 0:
        return Pooled(Interval(mean, mean, mean, count), 1.0 if mean == 0 else 0.0)
    df = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, known, strict=True))
    half = float(student.ppf((1 + level) / 2, df)) * error
    return Pooled(Interval(mean, mean - half, mean + half, count), float(2 * student.sf(abs(mean) / error, df)))


class Correlation(NamedTuple):
    """A rank correlation, its 95 % interval (NaN below four pairs), its p-value and the number of pairs."""

    rho: float
    low: float
    high: float
    p: float
    pairs: int


def spearman(x: Sequence[float], y: Sequence[float], level: float = LEVEL) -> Correlation:
    """Spearman's rank correlation of independent pairs.

    The interval is Fisher's, ``tanh(artanh ρ ± z √((1 + ρ²/2) / (n - 3)))``, around a ρ that is kept half a step of
    the possible values, ``6 / (n³ - n)``, from ±1: else a perfect order of four pairs would look certain. The two-sided
    p-value comes from all n! orders up to eight pairs, and from Student's t beyond. With four pairs it cannot be below
    2/24 = 0.083.

    Source:
        Bonett & Wright 2000, https://doi.org/10.1007/BF02294183.

    Example:
        >>> found = spearman([1, 2, 3, 4], [1, 2, 3, 5])
        >>> found.rho, round(found.p, 3), found.pairs
        (1.0, 0.083, 4)
    """
    from scipy.stats import norm
    from scipy.stats import t as student

    pairs = np.array([(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)])  # (n, 2)
    count = len(pairs)
    if count < 3 or (np.ptp(pairs, axis=0) == 0).any():
        return Correlation(math.nan, math.nan, math.nan, math.nan, count)
    first, second = (midranks(column) - (count + 1) / 2 for column in pairs.T)
    size = math.sqrt(float(first @ first) * float(second @ second))
    rho = float(np.clip(first @ second / size, -1, 1))
    if count <= 8:
        orders = np.array(list(itertools.permutations(second)))  # (n!, n)
        p = float(np.mean(np.abs(orders @ first) / size >= abs(rho) - 1e-12))
    else:
        p = 0.0 if abs(rho) == 1 else float(2 * student.sf(abs(rho) * math.sqrt((count - 2) / (1 - rho**2)), count - 2))
    if count < 4:
        return Correlation(rho, math.nan, math.nan, p, count)
    most = 1 - 6 / (count**3 - count)
    half = float(norm.ppf((1 + level) / 2)) * math.sqrt((1 + rho**2 / 2) / (count - 3))
    centre = math.atanh(np.clip(rho, -most, most))
    return Correlation(rho, math.tanh(centre - half), math.tanh(centre + half), p, count)


def _known(differences: Iterable[float]) -> Array:
    values = np.array(list(differences), dtype=np.float64)  # (n,)
    return values[~np.isnan(values)]
