"""Who is loud: gradient norms over time."""

from __future__ import annotations

from accord.conflict import dominance, norm_ratio
from accord.record import Record
from accord.report.chart import Array, Axis, Chart, Curves, View
from accord.report.names import align
from accord.report.study import Arm, Study
from accord.report.timeline import BAND_NOTE, STEP, by_method, curve, over_seeds


def norm_ratio_time(study: Study) -> Chart:
    """Largest over smallest gradient norm over time, one line per method."""
    if study.unmeasured:
        view = View("", missing=study.unmeasured)
    else:
        axis = Axis("largest / smallest norm", log=True)
        view = View("", (by_method(study, "Norm ratio", axis, norm_ratio, geometric=True, level=1.0),))
    return Chart(
        "norm_ratio_time",
        "conflict",
        "How unequal the gradients are",
        "The longest task gradient over the shortest; 1 means balance. In a plain sum the longest sets the direction: "
        "large ratios for most of training point to an imbalance, which rebalancing the losses mends more cheaply than "
        "any surgery. " + BAND_NOTE,
        (view,),
    )


def dominance_time(study: Study) -> Chart:
    """Each task's share of the summed norms over time, one view per method."""
    missing = study.unmeasured
    return Chart(
        "dominance_time",
        "method",
        "Whose gradient dominates",
        "Each task's share of the gradient lengths, before any method touches them: the task on top speaks loudest. A "
        "long gradient does not mean that this task learns more. " + BAND_NOTE,
        tuple(View(arm.label, missing=missing) if missing else _view(study, arm) for arm in study.arms),
        "Method",
        wide=False,
    )


def _view(study: Study, arm: Arm) -> View:
    if not arm.measured:
        return View(arm.label, missing="No Gramians were recorded in the runs of this method.")

    def measure(record: Record) -> Array:
        return align(dominance(record.gramian), record.tasks, study.tasks)

    seeds = over_seeds(arm.measured, measure, study.edges)  # (S, N, K)
    lines = [curve(task, study.style(task), seeds[..., i], study.edges) for i, task in enumerate(study.tasks)]
    level = 1 / len(study.tasks)
    return View(arm.label, (Curves("Share of the norms", STEP, Axis("share", share=True), tuple(lines), level),))
