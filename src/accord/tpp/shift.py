"""Shift: are the gaps of two parts distributed differently, and by more than chance?"""

from __future__ import annotations

import numpy as np

from accord.tpp.events import Events, Floats, Integers
from accord.tpp.inner import inner_gaps, within
from accord.tpp.parts import join

SHUFFLES = 199
BINS = 128  # of gaps, in the comparison with the regroupings


def distance(a: Floats, b: Floats) -> float:
    """Kolmogorov-Smirnov distance: the largest difference of the two empirical distribution functions.

    Example:
        >>> distance(np.array([1.0, 2.0]), np.array([2.0, 3.0, 4.0, 5.0]))
        0.75
    """
    both = np.concatenate([a, b])
    shares = (np.searchsorted(np.sort(x), both, side="right") / x.size for x in (a, b))
    return float(np.abs(np.subtract(*shares)).max())


def exceeds_chance(train: Events, other: Events) -> bool:
    """Whether none of 199 random regroupings of whole sequences has as large a distance between their gaps: p = 0.005.

    Gaps of one sequence are alike, so textbook p-values, which take them as independent, would call any two parts
    different.
    """
    whole = join([train, other])
    gaps, owner = inner_gaps(whole), whole.sequence[1:][within(whole)]  # (G,)
    edges = np.unique(np.quantile(gaps, np.linspace(0, 1, BINS + 1)[1:-1]))
    cell = owner * (edges.size + 1) + np.searchsorted(edges, gaps)
    counts = np.bincount(cell, minlength=len(whole) * (edges.size + 1)).reshape(len(whole), -1)  # (N, bins)
    total = counts.sum(0)

    def binned(chosen: Integers) -> float:
        ours = counts[chosen].sum(0)
        shares = [np.cumsum(x) / max(x.sum(), 1) for x in (ours, total - ours)]
        return float(np.abs(shares[0] - shares[1]).max())

    random = np.random.default_rng(0)
    observed = binned(np.arange(len(train), len(whole)))
    return all(binned(random.permutation(len(whole))[: len(other)]) < observed for _ in range(SHUFFLES))
