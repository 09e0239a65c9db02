"""Who pays: whose loss the summed gradient, the method's gradient and the optimiser's step raise, and by how much."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from accord.conflict import Line, harm, lines, rate
from accord.report.chart import Array, Axis, Bar, Bars, Chart, View
from accord.report.names import align
from accord.report.study import Arm, Study

DIRECTIONS = {"sum": "summed gradient", "aggregate": "method's gradient", "step": "optimiser's step"}


def harm_rate(study: Study) -> Chart:
    """Share of probed steps on which each task's loss was raised, a panel per task."""
    return Chart(
        "harm_rate",
        "harm",
        "How often a task pays",
        "The share of probed steps that raise this task's loss to first order. From left to right: had we followed the "
        "plain sum of the gradients; following the gradient that the method made of them; following the step that the "
        "optimiser really took. Momentum and adaptive rates often undo what a method promises in the middle. Whiskers "
        "span the smallest to the largest seed.",
        (_view(study, harm_rates),),
    )


def harm_size(study: Study) -> Chart:
    """How much of each task's first-order movement went upwards, a panel per task."""
    return Chart(
        "harm_size",
        "harm",
        "How much a task pays",
        "Of all first-order movement of this task's loss, the share that went up instead of down: at 0 % every step "
        "helped, at 50 % the steps took back as much as they gave. A task can be raised often and still pay little. "
        "Whiskers span the smallest to the largest seed.",
        (_view(study, harm_sizes),),
    )


def harm_rates(arm: Arm, tasks: tuple[str, ...]) -> Array:
    """(S, 3, K): share of steps on which each task is harmed, for each seed and each of ``DIRECTIONS``."""
    return _each(arm, tasks, lambda line: line.rate().value)


def harm_sizes(arm: Arm, tasks: tuple[str, ...]) -> Array:
    """(S, 3, K): first-order rises over rises and falls together, for each seed and each of ``DIRECTIONS``."""
    return _each(arm, tasks, raised_share)


def raised_share(line: Line) -> Array:
    """``Σ_t max(-p_t, 0) / Σ_t |p_t|`` of the progress ``p (T, K)``; NaN for a task that never moved."""
    up = rate(harm(line.progress), axis=0).value  # (K,)
    all_ways = rate(np.abs(line.progress), axis=0).value
    return up / np.where(all_ways > 0, all_ways, np.nan)


def _each(arm: Arm, tasks: tuple[str, ...], measure: Callable[[Line], Array]) -> Array:
    return np.stack(
        [[align(measure(lines(record)[name]), record.tasks, tasks) for name in DIRECTIONS] for record in arm.measured]
    )


def _view(study: Study, measure: Callable[[Arm, tuple[str, ...]], Array]) -> View:
    if study.unmeasured:
        return View("", missing=study.unmeasured)
    found = [(arm, measure(arm, study.tasks)) for arm in study.arms if arm.measured]
    top = max(np.nanmax(values, initial=0.0) for _, values in found)
    limit = min(1.0, max(0.05, 1.08 * float(top)))
    return View("", tuple(_panel(task, found, i, limit) for i, task in enumerate(study.tasks)))


def _panel(task: str, found: list[tuple[Arm, Array]], i: int, limit: float) -> Bars:
    bars = [_bar(arm, values[:, :, i]) for arm, values in found]
    return Bars(task, tuple(DIRECTIONS.values()), tuple(bars), Axis("", share=True), limit)


def _bar(arm: Arm, seeds: Array) -> Bar:
    mean = rate(seeds, axis=0).value  # (3,)
    if len(seeds) < 2:
        return Bar(arm.label, mean, arm.style)
    return Bar(arm.label, mean, arm.style, np.fmin.reduce(seeds, axis=0), np.fmax.reduce(seeds, axis=0))
