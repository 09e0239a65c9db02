"""What each method does: the weights of the tasks over time."""

from __future__ import annotations

import numpy as np

from accord.record import Record
from accord.report.chart import Array, Axis, Chart, Curves, View
from accord.report.names import align
from accord.report.study import Arm, Study
from accord.report.timeline import BAND_NOTE, STEP, curve, over_seeds


def weights_time(study: Study) -> Chart:
    """Weight of each task over time, one view per method."""
    return Chart(
        "weights_time",
        "method",
        "How the method weights the tasks",
        "What each task's gradient was multiplied with in the shared parameters, after scaling. The plain sum is 1 for "
        "all (dotted). Weights that have settled can be frozen, which saves the cost of the method. " + BAND_NOTE,
        tuple(_view(study, arm) for arm in study.arms),
        "Method",
    )


def _view(study: Study, arm: Arm) -> View:
    records = [record for record in arm.records if np.isfinite(record.weights).any()]
    if not arm.records:
        return View(arm.label, missing="These runs have no record.")
    if not records:
        return View(
            arm.label, missing="This method has no weights: it combines whole gradients, coordinate by coordinate."
        )

    def measure(record: Record) -> Array:
        return align(record.weights, record.tasks, study.tasks)

    seeds = over_seeds(records, measure, study.edges)  # (S, N, K)
    lines = [curve(task, study.style(task), seeds[..., i], study.edges) for i, task in enumerate(study.tasks)]
    return View(arm.label, (Curves("Weight per task", STEP, Axis("weight"), tuple(lines), 1.0),))
