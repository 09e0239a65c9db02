"""Does conflict predict what a method brings? Conflict and harm under the plain sum against the gain over it."""

from __future__ import annotations

import math

import numpy as np

from accord.bench.significance import Correlation, spearman
from accord.report.across.suite import Suite
from accord.report.chart import Axis, Chart, Point, Points, View
from accord.report.merit import joint_improvement, over
from accord.report.plots.harm import harm_rates
from accord.report.study import Study
from accord.report.tables.results import conflict_incidence
from accord.report.text import fixed, number

KINDS = {"conflict": "conflict under Sum()", "harm": "harm under Sum()"}


def conflict_gain(suite: Suite) -> Chart:
    """Conflict, and harm, of each problem under the plain sum against what each method brings over it."""
    view = _view(suite)
    return Chart(
        "conflict_gain",
        "across",
        "Does conflict predict the gain?",
        "Each mark is a method on a problem: to the right, tasks conflict more often under Sum() (share of pairs with "
        "a negative cosine; share of tasks and steps whose loss the optimiser's step raised); up, the method brings "
        "more over Sum(). If resolving conflict were what helps, marks would rise to the "
        "right. All marks of one problem stand above each other: the problems, not the marks, are the evidence.",
        (view,),
        notes=tuple(said(kind, correlation(suite, kind)) for kind in KINDS) if view.panels else (),
    )


def under_sum(study: Study, kind: str) -> float:
    """Conflict or harm of one problem under the plain sum, the mean over seeds; NaN where it was not measured."""
    arm = study.reference
    if arm is None or not arm.measured:
        return math.nan
    if kind == "conflict":
        return float(conflict_incidence(arm).mean())
    return float(np.nanmean(harm_rates(arm, study.tasks)[:, 2]))


def correlation(suite: Suite, kind: str) -> Correlation:
    """Rank correlation over problems of conflict or harm with the mean gain over the methods."""
    x, y = [], []
    for problem, study in zip(suite.problems, suite.studies, strict=True):
        known = [over(cells[problem]).mean for cells in suite.gain.values() if problem in cells]
        x.append(under_sum(study, kind))
        y.append(float(np.mean(known)) if known else math.nan)
    return spearman(x, y)


def said(kind: str, found: Correlation) -> str:
    """A correlation in words that do not promise more than its number of problems can hold."""
    if math.isnan(found.rho):
        return f"{kind.capitalize()}: {found.pairs} problems; a rank correlation needs three whose values differ."
    interval = "" if math.isnan(found.low) else f" [{fixed(found.low, 2)}, {fixed(found.high, 2)}]"
    text = (
        f"{kind.capitalize()} and the mean gain over the methods: rank correlation {fixed(found.rho, 2)}{interval} "
        f"over {found.pairs} problems, p = {number(found.p)}."
    )
    if 2 / math.factorial(found.pairs) > 0.05:
        return f"{text} So few problems cannot show a correlation, however strong."
    return text + (" That is beyond chance." if found.p < 0.05 else " That is not beyond chance.")


def _view(suite: Suite) -> View:
    panels = tuple(panel for kind in KINDS if (panel := _panel(suite, kind)).points)
    if panels:
        return View("", panels)
    return View("", missing="Needs runs of Sum() with recorded Gramians and a second method with the same seeds.")


def _panel(suite: Suite, kind: str) -> Points:
    points = []
    for problem, study in zip(suite.problems, suite.studies, strict=True):
        x = under_sum(study, kind)
        for arm in study.arms:
            known = over(joint_improvement(arm, study))
            if arm is not study.reference and known.seeds and math.isfinite(x):
                points.append(Point(arm.label, x, known.mean, arm.style, note=problem))
    axis = Axis(KINDS[kind], share=True)
    return Points(
        kind.capitalize(), axis, Axis("improvement over Sum()", share=True), tuple(points), (None, 0.0, "Sum()")
    )
