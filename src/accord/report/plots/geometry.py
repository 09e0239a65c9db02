"""What the gradients have in common: cancellation, effective rank, Pareto gap."""

from __future__ import annotations

import numpy as np

from accord.conflict import cancellation, effective_rank, pareto_gap, sum_norm
from accord.report.chart import Array, Axis, Chart, View
from accord.report.study import Study
from accord.report.timeline import BAND_NOTE, by_method

MOST = 300  # the gap solves a small problem per step: so many steps of a run show its course


def geometry_time(study: Study) -> Chart:
    """Cancellation, effective rank and Pareto gap over time, one line per method."""
    if study.unmeasured:
        view = View("", missing=study.unmeasured)
    else:
        view = View(
            "",
            (
                by_method(study, "What survives the sum", Axis("‖Σg‖ / Σ‖g‖", share=True), cancellation),
                by_method(study, "How many directions", Axis("effective rank"), effective_rank),
                by_method(study, "How far from a standstill", Axis("gap / ‖mean gradient‖"), relative_gap),
            ),
        )
    return Chart(
        "geometry_time",
        "conflict",
        "How much the gradients cancel",
        "What survives: the length of the summed gradient as a share of the single lengths; 100 % means that all point "
        "the same way, 0 % that they cancel. Directions: how many independent ones the gradients span, from 1 to the "
        "number of tasks. Standstill: the shortest weighted mean of the gradients, beside the plain mean; at 0 no step "
        "lowers all losses at once (a Pareto-stationary point), at 1 no weights give a shorter mean. " + BAND_NOTE,
        (view,),
    )


def relative_gap(gramian: Array) -> Array:
    """Pareto gap over the length of the mean gradient: ``(T, K, K) -> (T,)`` in [0, 1].

    The shortest convex combination is never longer than the mean, so a common scale of the losses drops out.
    """
    chosen = np.unique(np.linspace(0, len(gramian) - 1, min(MOST, len(gramian))).round().astype(int))
    out = np.full(len(gramian), np.nan)  # (T,)
    part = gramian[chosen]
    tasks = (np.einsum("tii->ti", part) > 0).sum(axis=-1)  # defined tasks; NaN > 0 is False
    length = sum_norm(part) / np.maximum(tasks, 1)
    out[chosen] = pareto_gap(part) / np.where(length > 0, length, np.nan)
    return out
