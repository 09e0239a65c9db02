"""Who is best over all problems, as far as that can be told: mean ranks with the critical difference."""

from __future__ import annotations

from accord.bench.stats import LEVEL
from accord.report.across.suite import Suite
from accord.report.chart import Axis, Chart, Interval, Intervals, View
from accord.report.text import fixed, listing, number


def mean_rank(suite: Suite) -> Chart:
    """Mean rank of each method over the problems, with half of the critical difference on both sides."""
    return Chart(
        "mean_rank",
        "across",
        "Mean rank over the problems",
        "In each problem the methods are ranked by their worth (Δm, or the improvement over Sum() where there are no "
        "single-task runs); 1 is best. The mark is the mean rank, the whisker half of Nemenyi's critical difference to "
        "each side, each small tick one problem. Two methods differ beyond chance if, and only if, their whiskers do "
        "not overlap. The line is the middle rank, which a method without any merit would have.",
        (_view(suite),),
        notes=notes(suite),
    )


def _view(suite: Suite) -> View:
    found = suite.ranking
    if isinstance(found, str):
        return View("", missing=f"No ranking: {found}.")
    rows = [
        Interval(
            method,
            float(found.mean[i]),
            (float(found.mean[i]) - found.critical / 2, float(found.mean[i]) + found.critical / 2),
            found.ranks[:, i],
            suite.styles[method],
        )
        for i, method in enumerate(found.methods)
    ]
    middle = (len(found.methods) + 1) / 2
    return View("", (Intervals("Mean rank", Axis("mean rank (1 is best)"), tuple(rows), middle),))


def notes(suite: Suite) -> tuple[str, ...]:
    """How far the ranking carries, and what is not in it."""
    found = suite.ranking
    said = []
    if not isinstance(found, str):
        widest = len(found.methods) - 1
        said.append(
            f"{len(found.problems)} problems, {len(found.methods)} methods: mean ranks differ if they are "
            f"{number(found.critical)} apart, of at most {widest}."
            + (" So few problems cannot tell any two of so many methods apart." if found.critical > widest else "")
        )
        said.append(
            f"Friedman's test: χ² = {fixed(found.chi2, 2)}, p = {number(found.p_chi2)}; Iman and Davenport's: "
            f"F = {fixed(found.f, 2)}, p = {number(found.p_f)}; from the orders themselves "
            f"p = {number(found.p)}, which alone holds for few problems."
        )
        if found.p >= 1 - LEVEL and any(found.mean - found.mean[0] > found.critical):
            said.append("All methods together cannot be told apart, so that no two of them should be, whatever their "
                        "whiskers are.")  # fmt: skip
        said += [f"Left out of the ranking: {text}." for text in found.missing]
    if suite.outsiders:
        said.append(f"Not ranked, for want of two seeds on half of the problems: {listing(suite.outsiders)}.")
    return (*said, *dependence(suite))


def dependence(suite: Suite) -> tuple[str, ...]:
    """A word of warning where a problem counts several times, as with several architectures."""
    kinds = [problem.split("(")[0] for problem in suite.problems]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    if not twice:
        return ()
    return (f"Several settings of one problem ({listing(twice)}) are not independent, which flatters the ranking.",)
