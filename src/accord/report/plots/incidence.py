"""How often tasks conflict, over time."""

from __future__ import annotations

from accord.conflict import incidence, severity
from accord.report.chart import Axis, Chart, View
from accord.report.study import Study
from accord.report.timeline import BAND_NOTE, by_method


def conflict_time(study: Study) -> Chart:
    """Incidence and severity of conflict over time, one line per method."""
    if study.unmeasured:
        view = View("", missing=study.unmeasured)
    else:
        view = View(
            "",
            (
                by_method(study, "How often: share of pairs", Axis("pairs in conflict", share=True), incidence),
                by_method(study, "How strongly: severity", Axis("severity"), severity),
            ),
        )
    return Chart(
        "conflict_time",
        "conflict",
        "How often, and how strongly, tasks conflict",
        "How often: of all pairs of tasks, the share whose gradients had a negative cosine. How strongly: the mean "
        "negative part of the cosine (0: never below zero, 1: opposite). Methods change the path of training, so they "
        "also change what is measured; they do not change the gradients at a given point. " + BAND_NOTE,
        (view,),
    )
