"""How often each method is close to the best: performance profiles over all problems, tasks and measures."""

from __future__ import annotations

import numpy as np

from accord.bench.ranking import Profiles, profiles
from accord.report.across.suite import Suite
from accord.report.chart import Axis, Chart, Curve, Curves, View
from accord.report.merit import measured, measures, over
from accord.report.text import listing, times

WIDEST = 0.5  # gap to the best up to which the curves are drawn


def performance_profile(suite: Suite) -> Chart:
    """Share of all measures on which a method is within some gap of the best."""
    found, few = cases(suite)
    notes = []
    if found.cases:
        count = times(len(found.cases), "case")
        notes.append(f"{count}: each measure of each task of each problem, means over at least two seeds.")
    if found.left_out:
        notes.append(f"Without a ratio, because the best value is 0: {listing(found.left_out)}.")
    if few:
        notes.append(f"One seed, so counted as no result: {times(few, 'cell')}.")
    return Chart(
        "performance_profile",
        "across",
        "Performance profiles",
        "How often is a method close to the best? At 0 stands the share of measures on which it is the best; further "
        "right, the share on which it is at most that much worse. Higher is better; a curve that stays below 1 has "
        "results missing or far off. Read it as a summary: below the top curve, the order of two curves may turn when "
        "a third method is taken out.",
        (_view(suite, found),),
        notes=tuple(notes),
    )


def cases(suite: Suite) -> tuple[Profiles, int]:
    """The profile of every measure of every task, and the number of cells with a single seed."""
    values: dict[str, dict[str, float]] = {}
    higher: dict[str, bool] = {}
    few = 0
    for problem, study in zip(suite.problems, suite.studies, strict=True):
        for task in study.tasks:
            for name, up in measures(study, task).items():
                case = f"{problem}, {task} {name}"
                higher[case] = up
                cells = {arm.label: over(measured(arm, task, name)) for arm in study.arms}
                few += sum(cell.seeds == 1 for cell in cells.values())
                known = {label: cell.mean for label, cell in cells.items() if cell.seeds > 1}
                if known:
                    values[case] = dict.fromkeys(suite.styles, float("nan")) | known
    return profiles(values, higher), few


def _view(suite: Suite, found: Profiles) -> View:
    if not found.cases or len(found.methods) < 2:
        return View("", missing="Needs two methods with at least two finished seeds on some problem.")
    largest = found.ratios[np.isfinite(found.ratios)].max() - 1
    edge = float(min(WIDEST, max(1.05 * largest, 0.01)))
    return View("", (Curves("Performance profile", Axis("gap to the best", share=True),
                            Axis("share of measures", share=True),
                            tuple(_curve(suite, found, method, edge) for method in found.methods)),))  # fmt: skip


def _curve(suite: Suite, found: Profiles, method: str, edge: float) -> Curve:
    """The staircase: each corner twice, once before the step and once after."""
    corners, shares = found.curve(method)
    gaps, shares = corners[corners - 1 <= edge] - 1, shares[corners - 1 <= edge]
    x = np.append(np.repeat(gaps, 2)[1:], edge)
    return Curve(method, x, np.repeat(shares, 2), suite.styles[method])
