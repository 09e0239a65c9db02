"""What is it worth, and what does it cost: quality against time and memory, and task against task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from accord.report.chart import Array, Axis, Chart, Point, Points, View
from accord.report.merit import (
    Seeds,
    against_single,
    joint_improvement,
    metric_names,
    milliseconds,
    over,
    peak,
    rates,
    scores,
    span,
)  # fmt: skip
from accord.report.palette import single_style
from accord.report.study import Arm, Study


def cost(study: Study) -> Chart:
    """Quality against milliseconds per step, and against peak memory where that was measured."""
    return Chart(
        "cost",
        "tradeoff",
        "Worth against cost",
        "Each mark is a method: to the left is cheaper, up is better; whiskers span the smallest to the largest seed. "
        "A method that stands to the right of Sum() has to stand clearly above it to be worth its time. The thin line "
        "joins the methods that no other beats in both (the Pareto front of the means; where whiskers overlap, seeds "
        "could change it).",
        (_cost(study),),
        wide=any(peak(arm) for arm in study.arms),
    )


def task_pairs(study: Study) -> Chart:
    """Test metric of one task against that of another, with single-task training as the corner."""
    names = metric_names(study)
    pairs = [(a, b) for a, b in combinations(study.tasks, 2) if a in names and b in names]
    if pairs:
        views = tuple(_pair(study, a, b, names) for a, b in pairs)
    else:
        short = len(study.tasks) < 2
        views = (View("", missing="Needs two tasks." if short else "No run is finished, so there is no test metric."),)
    return Chart(
        "task_pairs",
        "tradeoff",
        "One task against another",
        "Test metrics of two tasks; whiskers span the smallest to the largest seed. The dotted lines are "
        "single-task training: beyond both lines, sharing helps both tasks; beyond one, it helps one task at the "
        "expense of the other.",
        views,
        "Pair of tasks" if len(views) > 1 else "",
        wide=False,
    )


def _cost(study: Study) -> View:
    merits = [against_single(arm, study)[0] for arm in study.arms]
    alone = all(merit or not arm.finished for merit, arm in zip(merits, study.arms, strict=True))
    if not alone:
        merits = [_against_sum(arm, study) for arm in study.arms]
    if sum(map(bool, merits)) < (1 if alone else 2):
        return View("", missing="Needs finished runs of two methods, one of them Sum(), or single-task runs.")
    y = Axis("Δm against single-task training" if alone else "improvement over Sum()", share=True)
    corner = (None, 0.0, "each task alone" if alone else "Sum()")
    panels = [("Worth against cost", "ms per training step", milliseconds)]
    if any(peak(arm) for arm, merit in zip(study.arms, merits, strict=True) if merit):
        panels.append(("Worth against memory", "peak memory, MiB", peak))

    def panel(title: str, label: str, price: Callable[[Arm], Seeds]) -> Points:
        known = [(arm, price(arm), merit) for arm, merit in zip(study.arms, merits, strict=True) if merit]
        points = tuple(_point(arm, cost, merit) for arm, cost, merit in known if cost)
        return Points(title, Axis(label), y, points, corner, front(points))

    return View("", tuple(panel(*entry) for entry in panels))


def front(points: Sequence[Point]) -> Array | None:
    """Corners ``(N, 2)`` of the staircase of the points that no other beats, smaller x and larger y being better.

    Example:
        >>> from accord.report.palette import reference_style
        >>> marks = [Point(str(x), x, y, reference_style()) for x, y in ((1.0, 0.0), (2.0, -1.0), (3.0, 2.0))]
        >>> front(marks).tolist()
        [[1.0, 0.0], [3.0, 0.0], [3.0, 2.0]]
    """
    found: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not found or point.y > found[-1][1]:
            if found:
                found.append((point.x, found[-1][1]))
            found.append((point.x, point.y))
    return np.array(found) if len(found) > 1 else None


def _against_sum(arm: Arm, study: Study) -> Seeds:
    return dict.fromkeys([0], 0.0) if arm is study.reference and arm.finished else joint_improvement(arm, study)


def _pair(study: Study, a: str, b: str, names: dict[str, str]) -> View:
    points = [_point(arm, scores(arm, a), scores(arm, b)) for arm in study.arms if scores(arm, a) and scores(arm, b)]
    alone = [scores(study.singles[task], task) if task in study.singles else {} for task in (a, b)]
    if all(alone):
        points.append(_point(Arm("each task alone", single_style(), ()), *alone))
    x, y = (over(values).mean if values else None for values in alone)
    corner = None if x is None and y is None else (x, y, "each task alone")
    axes = [Axis(f"{task}, {names[task]}") for task in (a, b)]
    return View(f"{a} – {b}", (Points(f"{a} against {b}", axes[0], axes[1], tuple(points), corner),))


def _point(arm: Arm, x: Seeds, y: Seeds) -> Point:
    note = f"learning rate {rates(arm)}" if arm.trials else ""
    return Point(arm.label, over(x).mean, over(y).mean, arm.style, span(x), span(y), note)
