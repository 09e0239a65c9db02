"""The paper's claims, and by which rule each is said to hold here. Fixed before anything was run.

A claim is a list of comparisons. Each is a difference per problem and seed, paired by seed; over problems it is pooled
(``accord.bench.significance.pooled``: for these problems and new seeds). Its 95 % interval decides:

- **holds**: the interval lies wholly on the claimed side of zero;
- **does not hold**: it lies wholly on the other side, or wholly within the margin around zero, which is too small to
  matter: 1 percentage point of incidence (the paper's mean drop on its from-scratch network is 1.7), 0.5 % of Delta-m;
- **problems disagree**: the intervals of single problems lie on both sides of zero, whatever the pooled one does;
- **cannot be told here**: anything else, and whenever fewer than two seeds are there.

A claim of several primary comparisons holds if all hold, and does not hold if one does not; their intervals are at
1 - 0.05 / m (Bonferroni). Secondary comparisons are reported with their own word and decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accord.bench import significance
from accord.bench.stats import LEVEL, Interval, interval

HOLDS, NOT, UNKNOWN, MIXED = "holds", "does not hold", "cannot be told here", "problems disagree"
POINT, PERCENT = 1.0, 0.5  # margins: of incidence in percentage points, of Delta-m in per cent

CLAIMS = {
    "C1": "Sparse training lowers the incidence of conflict.",
    "C2": "More so in the last half of training.",
    "C3": "It improves Delta-m over dense training.",
    "C4": "With every method.",
    "C5": "Largest magnitude per neuron beats random, global and reverse selection at equal density.",
    "C6": "From scratch the best density is about 60 %.",
    "C7": "Conflict grows with the size of the model.",
    "C8": "It costs nothing: one top-k before training, and no slower step.",
    "Q1": "(question 1) Is a lower incidence a matter of which coordinates are looked at? Masked minus full.",
    "Q2": "(question 2) Is it the learning rate?",
    "Q3": "(question 3) Is it the stage of training? Difference at matched training loss.",
    "Q4": "(question 4) Is it only regularisation, or only fewer weights?",
    "Q12": "(question 12) Mask first, or combine first?",
}
Groups = Mapping[str, Mapping[int, float]]  # by problem and seed


@dataclass(frozen=True)
class Comparison:
    """One difference.

    Args:
        claim: to which it belongs.
        what: in words.
        unit: ``points`` of incidence or ``%``.
        side: +1 if the claim is a positive difference, -1 a negative one; 0: a question without a side.
        margin: below which a difference is too small to matter.
        groups: by problem and seed; NaN is left out.
        primary: whether it decides the claim.
    """

    claim: str
    what: str
    unit: str
    side: int
    margin: float
    groups: Groups
    primary: bool = True

    def problem(self, name: str) -> Interval:
        """Over the seeds of one problem."""
        return interval(self.groups.get(name, {}).values())

    def pooled(self, level: float = LEVEL) -> Interval:
        """Over all problems."""
        return significance.pooled([list(seeds.values()) for seeds in self.groups.values()], level).interval

    def word(self, level: float = LEVEL) -> str:
        """What the intervals say."""
        single = [interval(seeds.values(), level) for seeds in self.groups.values()]
        if any(one.low > 0 for one in single) and any(one.high < 0 for one in single):
            return MIXED
        return judge(self.pooled(level), self.side, self.margin)


def judge(found: Interval, side: int, margin: float) -> str:
    """The rule of this page for one interval.

    Args:
        found: of a difference.
        side: that is claimed; 0: none is.
        margin: below which a difference is too small to matter.

    Example:
        >>> judge(Interval(-3.0, -4.0, -2.0, 9), -1, 1.0), judge(Interval(0.1, -0.3, 0.5, 9), -1, 1.0)
        ('holds', 'does not hold')
        >>> judge(Interval(-3.0, -7.0, 1.0, 9), -1, 1.0), judge(Interval(-3.0, -4.0, -2.0, 9), 0, 1.0)
        ('cannot be told here', 'lower')
    """
    if math.isnan(found.low):
        return UNKNOWN
    if side == 0:
        return "higher" if found.low > 0 else "lower" if found.high < 0 else _equal(found, margin)
    low, high = sorted((side * found.low, side * found.high))
    if low > 0:
        return HOLDS
    return NOT if high < 0 or max(-low, high) < margin else UNKNOWN


def _equal(found: Interval, margin: float) -> str:
    return "no difference that matters" if max(-found.low, found.high) < margin else UNKNOWN


def verdict(parts: Sequence[Comparison]) -> str:
    """Of a claim: its primary comparisons together.

    Args:
        parts: comparisons of one claim.
    """
    primary = [part for part in parts if part.primary]
    if not primary or any(part.side == 0 for part in primary):
        return ""
    words = [part.word(1 - (1 - LEVEL) / len(primary)) for part in primary]
    return next((word for word in (NOT, MIXED, UNKNOWN) if word in words), HOLDS)
