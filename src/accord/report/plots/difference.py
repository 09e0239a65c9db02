"""Did any method beat the plain sum: differences paired by seed."""

from __future__ import annotations

import numpy as np

from accord.report.chart import Axis, Chart, Interval, Intervals, View
from accord.report.merit import Seeds, ends, improvement, joint_improvement, over
from accord.report.study import Arm, Study


def difference(study: Study) -> Chart:
    """Relative improvement over the plain sum, paired by seed: all tasks together, then each task."""
    return Chart(
        "difference",
        "results",
        "Did any method beat the plain sum?",
        "Relative improvement of the test metrics over Sum() with the same seed, the mean over a task's measures where "
        "it has several; right of the line is better. The mark is the mean, the whisker its 95 % interval, each small "
        "tick one seed. A whisker that crosses the line means: no difference beyond seed noise. Each interval stands "
        "by itself; the verdict above corrects for the number of methods.",
        (_view(study),),
    )


def _view(study: Study) -> View:
    if study.reference is None:
        return View("", missing="Needs runs of Sum(), the plain sum that every method is compared with.")
    others = [arm for arm in study.arms if arm is not study.reference]
    if not others:
        return View("", missing="Needs at least one method beside Sum().")
    tables = [("All tasks", {arm.label: joint_improvement(arm, study) for arm in others})]
    if len(study.tasks) > 1:
        tables += [(task, {arm.label: improvement(arm, study, task) for arm in others}) for task in study.tasks]
    if not any(len(values) for values in tables[0][1].values()):
        return View("", missing="No method has a finished run with the same seed as a finished run of Sum().")
    panels = [_panel(title, others, found) for title, found in tables]
    return View("", tuple(panels))


def _panel(title: str, arms: list[Arm], found: dict[str, Seeds]) -> Intervals:
    rows = []
    for arm in arms:
        known, single = over(found[arm.label]), np.array(list(found[arm.label].values()))
        rows.append(Interval(arm.label, known.mean, ends(known), single, arm.style))
    return Intervals(title, Axis("improvement", share=True), tuple(rows))
