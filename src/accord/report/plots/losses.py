"""How training went: the loss of each task over time."""

from __future__ import annotations

import numpy as np

from accord.record import Record
from accord.report.chart import Array, Axis, Chart, Curves, View
from accord.report.names import align
from accord.report.study import Study
from accord.report.timeline import BAND_NOTE, STEP, curve, over_seeds


def losses_time(study: Study) -> Chart:
    """Training loss of each task over time, a panel per task and a line per method."""
    panels = tuple(_panel(study, i) for i in range(len(study.tasks)))
    seen = any(arm.records for arm in study.arms)
    view = View("", panels) if seen else View("", missing="These runs have no record, so there is no loss per step.")
    return Chart(
        "losses_time",
        "losses",
        "Training loss of each task",
        "Raw losses on the probed mini-batches, before any weighting, one panel per task. Lower is better, but compare "
        "methods by the test metrics above: a lower training loss may be overfitting. " + BAND_NOTE,
        (view,),
    )


def _panel(study: Study, i: int) -> Curves:
    def measure(record: Record) -> Array:
        return align(record.losses, record.tasks, study.tasks)[:, i]  # (T,)

    seeds = [(arm, over_seeds(arm.records, measure, study.edges)) for arm in study.arms if arm.records]
    known = np.concatenate([values[np.isfinite(values)] for _, values in seeds]) if seeds else np.ones(1)
    logarithmic = bool(len(known) and known.min() > 0 and known.max() > 3 * known.min())
    lines = tuple(curve(arm.label, arm.style, values, study.edges) for arm, values in seeds)
    return Curves(study.tasks[i], STEP, Axis("loss", log=logarithmic), lines)
