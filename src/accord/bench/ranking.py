"""Methods ranked over several problems, and what may be concluded from that: pure functions on numbers.

Letters: `P` problems, `M` methods, `C` cases.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accord.bench.significance import midranks
from accord.bench.stats import LEVEL
from accord.errors import AccordError

Array = NDArray[np.float64]
DRAWN = 2**16  # choices of orders that are all tried, or else as many that are drawn
SEEDS = 2  # below which a method's place is luck
Quality = Mapping[str, Mapping[str, Mapping[int, float]]]  # higher is better, by problem, method and seed


@dataclass(frozen=True, eq=False)
class Ranking:
    """Mean ranks over complete problems; 1 is best.

    Args:
        methods: best first.
        problems: those in which every method has at least two seeds in common with the others.
        ranks: (P, M), ties averaged.
        mean: (M,) over problems.
        chi2: Friedman's statistic, corrected for ties.
        p_chi2: of all methods being alike.
        f: Iman and Davenport's statistic, which is less conservative.
        p_f: of all methods being alike.
        p: of the same, from the orders themselves: the only one of the three that holds for few problems.
        critical: two mean ranks further apart than this differ (Nemenyi).
        groups: the largest sets of neighbours that cannot be told apart; a method may be in several.
        missing: what kept problems out of the ranking, in words.
    """

    methods: tuple[str, ...]
    problems: tuple[str, ...]
    ranks: Array
    mean: Array
    chi2: float
    p_chi2: float
    f: float
    p_f: float
    p: float
    critical: float
    groups: tuple[tuple[str, ...], ...]
    missing: tuple[str, ...]


def rank(quality: Quality, level: float = LEVEL) -> Ranking:
    """Rank the methods in every problem by their mean over common seeds, and compare their mean ranks.

    ``χ²_F = (M-1) Σ_j (R_j - P(M+1)/2)² / Σ_ij (r_ij - (M+1)/2)²`` with ``R_j = Σ_i r_ij``;
    ``F_F = (P-1) χ²_F / (P(M-1) - χ²_F)``; ``CD = q √(M(M+1) / 6P)`` with q the quantile of the studentised range of M
    over √2.

    Args:
        quality: higher is better, by problem, method and seed; every method of any problem is ranked.
        level: of confidence.

    Raises:
        AccordError: if there are fewer than two methods, or fewer than two problems that all methods finished with at
            least two common seeds: single runs are never ranked.

    Source:
        Demšar 2006, https://jmlr.org/papers/v7/demsar06a.html, section 3.2.

    Example:
        >>> cells = {p: {"a": {0: 1.0, 1: 1.1}, "b": {0: 0.5, 1: 0.6}} for p in ("one", "two", "three")}
        >>> found = rank(cells)
        >>> found.methods, found.mean, round(found.critical, 2)
        (('a', 'b'), array([1., 2.]), 1.13)
    """
    methods = list(dict.fromkeys(method for cells in quality.values() for method in cells))
    if len(methods) < 2:
        raise AccordError(f"found {len(methods)} methods to rank, expected at least two")
    found, missing = {}, []
    for problem, cells in quality.items():
        lacking, means = _means(cells, methods)
        if means is None:
            missing.append(f"{problem}: {lacking}")
        else:
            found[problem] = midranks(-means)
    if len(found) < 2:
        words = f"; {'; '.join(missing)}" if missing else ""
        raise AccordError(
            f"found {len(found)} {'problem' if len(found) == 1 else 'problems'} that all methods finished with at "
            f"least {SEEDS} common seeds, expected at least two: single runs are never ranked{words}"
        )
    ranks = np.stack(list(found.values()))  # (P, M)
    order = sorted(range(len(methods)), key=lambda i: (ranks[:, i].mean(), methods[i]))
    ranks = ranks[:, order]
    return _compared([methods[i] for i in order], tuple(found), ranks, tuple(missing), level)


def _means(cells: Mapping[str, Mapping[int, float]], methods: list[str]) -> tuple[str, Array | None]:
    """Mean quality of every method over the seeds that all have, or what is missing for that."""
    known = {m: {seed for seed, value in cells.get(m, {}).items() if math.isfinite(value)} for m in methods}
    short = [f"{m} has {len(seeds) or 'no'} {'seed' if len(seeds) == 1 else 'seeds'}"
             for m, seeds in known.items() if len(seeds) < SEEDS]  # fmt: skip
    if short:
        return ", ".join(short), None
    common = set.intersection(*known.values())
    if len(common) < SEEDS:
        return f"the methods have {len(common) or 'no'} common {'seed' if len(common) == 1 else 'seeds'}", None
    return "", np.array([np.mean([cells[m][seed] for seed in sorted(common)]) for m in methods])


def _compared(
    methods: list[str], problems: tuple[str, ...], ranks: Array, missing: tuple[str, ...], level: float
) -> Ranking:
    from scipy.stats import chi2 as chi_squared
    from scipy.stats import f as fisher

    count, many = ranks.shape
    mean = ranks.mean(axis=0)  # (M,)
    spread = float(((ranks - (many + 1) / 2) ** 2).sum())
    between = float(((ranks.sum(axis=0) - count * (many + 1) / 2) ** 2).sum())
    chi2 = (many - 1) * between / spread if spread else 0.0
    rest = count * (many - 1) - chi2
    f = (count - 1) * chi2 / rest if rest > 1e-9 else math.inf
    gap = critical_difference(many, count, level)
    return Ranking(
        tuple(methods),
        problems,
        ranks,
        mean,
        chi2,
        float(chi_squared.sf(chi2, many - 1)),
        f,
        float(fisher.sf(f, many - 1, (many - 1) * (count - 1))),
        permuted(ranks),
        gap,
        _groups(methods, mean, gap),
        missing,
    )


def permuted(ranks: Array) -> float:
    """Friedman's test without an approximation: were all methods alike, each problem could have any order of its ranks.

    ``p = share of the (M!)^(P-1) choices of orders whose Σ_j R_j² is at least the observed one``, the first problem's
    order being fixed; where these are more than 65 536, of so many that are drawn with a fixed seed, the observed one
    among them.

    Args:
        ranks: (P, M).

    Example:
        >>> permuted(np.array([[1.0, 2.0]] * 4))  # four problems agree on two methods, which means little
        0.125
    """
    count, many = ranks.shape
    sums = ranks[:1]  # (1, M), in the end (choices, M)
    if math.factorial(many) ** (count - 1) <= DRAWN:
        for row in ranks[1:]:
            orders = np.array(list(itertools.permutations(row)))  # (M!, M)
            sums = (sums[:, None] + orders).reshape(-1, many)
    else:
        generator = np.random.default_rng(0)
        for row in ranks[1:]:
            sums = sums + generator.permuted(np.tile(row, (DRAWN, 1)), axis=1)
        sums[0] = ranks.sum(axis=0)
    observed = float((ranks.sum(axis=0) ** 2).sum())
    return float(np.mean((sums**2).sum(axis=1) >= observed * (1 - 1e-12)))


def critical_difference(methods: int, problems: int, level: float = LEVEL) -> float:
    """Nemenyi's critical difference of mean ranks.

    Example:
        >>> round(critical_difference(5, 30), 3)
        1.114
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(level, methods, math.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * problems))


def _groups(methods: list[str], mean: Array, gap: float) -> tuple[tuple[str, ...], ...]:
    """The largest runs of neighbours that span no more than the critical difference."""
    found: list[tuple[int, int]] = []
    for first in range(len(methods)):
        last = int(np.flatnonzero(mean <= mean[first] + gap + 1e-12)[-1])
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(tuple(methods[first : last + 1]) for first, last in found)


@dataclass(frozen=True, eq=False)
class Profiles:
    """How far each method is from the best, case by case.

    Args:
        methods: in the order given.
        cases: names, such as a problem and a task.
        ratios: (C, M), 1 for the best; infinite where a method has no result.
        left_out: cases whose best value is 0, to which no ratio exists.
    """

    methods: tuple[str, ...]
    cases: tuple[str, ...]
    ratios: Array
    left_out: tuple[str, ...]

    def curve(self, method: str) -> tuple[Array, Array]:
        """The corners of the profile: ratios τ and the share of cases with at most this ratio, both (N,).

        Example:
            >>> made = profiles({"x": {"a": 1.0, "b": 2.0}, "y": {"a": 3.0, "b": 3.0}}, {"x": False, "y": False})
            >>> made.curve("b")
            (array([1., 2.]), array([0.5, 1. ]))
        """
        column = self.ratios[:, self.methods.index(method)]  # (C,)
        corners = np.unique([1.0, *column[np.isfinite(column)].tolist()])
        return corners, (column[None] <= corners[:, None] * (1 + 1e-12)).mean(axis=1)


def profiles(values: Mapping[str, Mapping[str, float]], higher: Mapping[str, bool]) -> Profiles:
    """Performance profiles: for each case and method the ratio ``r = 1 + |best - value| / |best|``.

    Where lower is better and the best is positive this is ``value / best``, as published. The other form also serves
    measures where higher is better, and negative ones.

    Args:
        values: by case and method; NaN or absent counts as a failure.
        higher: whether higher is better, by case.

    Source:
        Dolan & Moré 2002, https://arxiv.org/abs/cs/0102001, section 2.

    Example:
        >>> profiles({"x": {"a": 1.0, "b": 2.0}}, {"x": False}).ratios
        array([[1., 2.]])
    """
    methods = tuple(dict.fromkeys(method for cells in values.values() for method in cells))
    cases, rows, left_out = [], [], []
    for case, cells in values.items():
        row = np.array([cells.get(method, math.nan) for method in methods], dtype=np.float64)  # (M,)
        known = row[np.isfinite(row)]
        best = float(known.max() if higher[case] else known.min()) if len(known) else 0.0
        if best == 0:
            left_out.append(case)
            continue
        cases.append(case)
        rows.append(np.where(np.isfinite(row), 1 + np.abs(best - row) / abs(best), math.inf))
    table = np.stack(rows) if rows else np.empty((0, len(methods)))
    return Profiles(methods, tuple(cases), table, tuple(left_out))
