"""Which tasks conflict: the mean cosine of each pair of task gradients."""

from __future__ import annotations

import numpy as np

from accord.conflict import cosine, rate
from accord.report.chart import Array, Axis, Chart, Heat, View
from accord.report.names import align
from accord.report.study import Arm, Study


def pair_cosine(study: Study) -> Chart:
    """Task x task heat map of the cosine, averaged over probed steps, then over seeds; one view per method."""
    missing = study.unmeasured
    means = {} if missing else {arm: mean_cosine(arm, study.tasks) for arm in study.arms if arm.measured}
    limit = round_limit(np.concatenate([np.ravel(value) for value in means.values()])) if means else 1.0
    return Chart(
        "pair_cosine",
        "method",
        "Which tasks pull against each other",
        "The mean cosine of the angle between two tasks' gradients in the shared parameters. Red, below zero: the two "
        "conflict on average; blue: they help each other; near zero: unrelated. A mini-batch cosine is noisy, and a "
        "negative one is not yet harm. Hatched: undefined, because a gradient was zero or absent on every probed step.",
        tuple(
            View(arm.label, missing=missing) if missing else _view(study, arm, means.get(arm), limit)
            for arm in study.arms
        ),
        "Method",
        wide=False,
    )


def mean_cosine(arm: Arm, tasks: tuple[str, ...]) -> Array:
    """(K, K) mean over steps, then over seeds, of the defined cosines; NaN on the diagonal."""
    seeds = [align(rate(cosine(r.gramian), axis=0).value, r.tasks, tasks, axes=(0, 1)) for r in arm.measured]
    mean = rate(np.stack(seeds), axis=0).value
    mean[np.eye(len(mean), dtype=bool)] = np.nan  # a task with itself is no pair: nothing was measured there
    return mean


def round_limit(cosines: Array) -> float:
    """The smallest of 0.25, 0.5 and 1 that holds all values: small cosines stay visible, and views can be compared."""
    largest = np.nanmax(np.abs(cosines), initial=0.0)
    return next((limit for limit in (0.25, 0.5) if largest <= limit), 1.0)


def _view(study: Study, arm: Arm, values: Array | None, limit: float) -> View:
    if values is None:
        return View(arm.label, missing="No Gramians were recorded in the runs of this method.")
    shown = Heat(
        "Mean cosine",
        study.tasks,
        study.tasks,
        values,
        Axis("cosine"),
        (-limit, limit),
        "diverging",
        Axis("task"),
        Axis("task"),
        square=True,
        blank=np.eye(len(values), dtype=bool),
    )
    return View(arm.label, (shown,))
