"""How learning went: validation metric and training loss of each task by epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accord.report.chart import Axis, Chart, Curve, Curves, View
from accord.report.merit import main_metric
from accord.report.study import Arm, Study
from accord.report.timeline import middle

Reading = Callable[[dict[str, Any]], float]


def learning(study: Study) -> Chart:
    """Validation metric, and training loss, of each task by epoch; a panel per task and a line per method."""
    names = {task: main_metric(study, task) for task in study.tasks}
    validated = [(task, f"{name[0]} {'↑' if name[1] else '↓'}", _validation(task, name[0]))
                 for task, name in names.items() if name]  # fmt: skip
    trained = [(task, "mean training loss", _loss(task)) for task in study.tasks]
    views = (
        _view("validation metric", study, validated, "No run has finished, so the metrics have no names yet."),
        _view("training loss", study, trained, "These runs have no finished epoch."),
    )
    return Chart(
        "learning",
        "losses",
        "Learning curves",
        "Each task's metric on the validation data after every epoch, or its mean training loss in the epoch, whatever "
        "weights the method gave it. A curve that still climbs at the end says that the runs were short; a metric that "
        "turns while the loss goes on falling says overfitting. Lines are means over seeds; bands span the smallest to "
        "the largest seed.",
        views,
        "Shown",
    )


def _validation(task: str, metric: str) -> Reading:
    return lambda epoch: epoch.get("validation", {}).get(task, {}).get(metric, np.nan)


def _loss(task: str) -> Reading:
    return lambda epoch: epoch.get("train_loss", {}).get(task, np.nan)


def _view(label: str, study: Study, rows: list[tuple[str, str, Reading]], missing: str) -> View:
    panels = []
    for task, axis, read in rows:
        curves = [curve for arm in study.arms if (curve := _curve(arm, read)) is not None]
        if curves:
            panels.append(Curves(task, Axis("epoch"), Axis(axis), tuple(curves)))
    return View(label, tuple(panels), "" if panels else missing)


def _curve(arm: Arm, read: Reading) -> Curve | None:
    histories = [[float(read(epoch)) for epoch in trial.run.history] for trial in arm.trials]
    longest = max(map(len, histories), default=0)
    seeds = np.full((len(histories), longest), np.nan)  # (S, N)
    for row, history in zip(seeds, histories, strict=True):
        row[: len(history)] = history
    there = np.isfinite(seeds).any(axis=0)  # (N,)
    if not there.any():
        return None
    x, known = np.arange(1.0, longest + 1)[there], seeds[:, there]
    if len(seeds) < 2:
        return Curve(arm.label, x, known[0], arm.style)
    low, high = np.fmin.reduce(known, axis=0), np.fmax.reduce(known, axis=0)
    return Curve(arm.label, x, middle(known), arm.style, low, high)
