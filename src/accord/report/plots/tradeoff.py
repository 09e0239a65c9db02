"""What is it worth, and what does it cost: quality against time, and task against task."""

from __future__ import annotations

from itertools import combinations

from accord.report.chart import Axis, Chart, Point, Points, View
from accord.report.merit import Seeds, against_single, joint_improvement, metric_names, milliseconds, over, scores, span
from accord.report.palette import single_style
from accord.report.study import Arm, Study


def cost(study: Study) -> Chart:
    """Quality against milliseconds per step."""
    return Chart(
        "cost",
        "tradeoff",
        "Worth against cost",
        "Each mark is a method: to the left is cheaper, up is better; whiskers span the smallest to the largest seed. "
        "A method that stands to the right of Sum() has to stand clearly above it to be worth its time.",
        (_cost(study),),
        wide=False,
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
    points = [_point(arm, milliseconds(arm), merit) for arm, merit in zip(study.arms, merits, strict=True) if merit]
    if len(points) < (1 if alone else 2):
        return View("", missing="Needs finished runs of two methods, one of them Sum(), or single-task runs.")
    y = Axis("Δm against single-task training" if alone else "improvement over Sum()", share=True)
    corner = (None, 0.0, "each task alone" if alone else "Sum()")
    return View("", (Points("Worth against cost", Axis("ms per training step"), y, tuple(points), corner),))


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
    return Point(arm.label, over(x).mean, over(y).mean, arm.style, span(x), span(y))
