"""Conflict where only a part is trained: trained scalars beside all shared ones, over time and at equal loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from accord.conflict import incidence
from accord.record import Record
from accord.report.chart import Array, Axis, Chart, Curve, Curves, View
from accord.report.study import Arm, Study
from accord.report.timeline import STEP, curve, windows

CHANCE = 0.5  # how often the gradients of two unrelated tasks have a negative cosine
TRAINED = "trained"  # block of a look; the others are frozen
ALL = ", all shared"  # ending of a line's name
LOSSES = 10  # windows of the loss, at most
SMOOTH = 5  # recorded steps over which a loss is averaged: single batches are noise

Series = tuple[Array, Array, Array]  # steps (T,), smoothed losses (T,), incidence (T,)


def masked_incidence(study: Study) -> Chart:
    """Incidence of the trained and of all shared scalars over time, and against the training loss."""
    lines = {arm: found for arm in study.arms if (found := _lines(arm))}
    views = (View("", _panels(lines)),) if any(arm.looks for arm in lines) else ()
    return Chart(
        "masked_incidence",
        "conflict",
        "Conflict in what is trained, and in all that is shared",
        "Share of the task pairs whose gradients had a negative cosine: over the scalars that are trained, and over "
        "all shared ones, the frozen among them (dashed; where everything is trained both are the same line). The "
        "dotted level is chance: unrelated gradients conflict in 50 % of all cases, so a fall towards 50 % is a "
        "fall towards unrelated gradients, not towards agreement. To the right the same against the training loss, the "
        "sum over tasks, smoothed: where conflict grows as the loss falls, a method that learns more slowly shows "
        "less of it at equal steps; at equal loss that is no advantage. Bands span the smallest to the largest seed.",
        views,
    )


def _lines(arm: Arm) -> dict[str, list[Series]]:
    """For each line of an arm its seeds: trained scalars, and all shared ones where they were looked at."""
    if not arm.looks:
        return {arm.label: [_series(record, record.gramian) for record in arm.measured]} if arm.measured else {}
    parts = [(record, record.gramians[:, record.blocks.index(TRAINED)]) for record in arm.looks]
    return {
        f"{arm.label}, trained": [_series(record, part) for record, part in parts],
        f"{arm.label}{ALL}": [_series(record, record.gramian) for record, _ in parts],
    }


def _series(record: Record, gramians: Array) -> Series:
    return record.index.astype(float), _smoothed(record.losses.sum(axis=1)), incidence(gramians)


def _smoothed(values: Array) -> Array:
    """Means over the neighbours of each value, as many on both sides; fewer at the ends.

    Example:
        >>> _smoothed(np.array([5.0, 0.0, 1.0, 0.0, 5.0, 1.0]))[:3].tolist()
        [5.0, 2.0, 2.2]
    """
    half = SMOOTH // 2
    ends = [min(half, i, len(values) - 1 - i) for i in range(len(values))]
    return np.array([values[i - n : i + n + 1].mean() for i, n in enumerate(ends)])


def _panels(lines: dict[Arm, dict[str, list[Series]]]) -> tuple[Curves, ...]:
    every = [series for found in lines.values() for seeds in found.values() for series in seeds]
    steps = np.concatenate([series[0] for series in every])
    count = int(np.clip(np.median([len(series[0]) for series in every]) // SMOOTH, 1, 40))
    panels = [("At equal steps", STEP, 0, np.linspace(steps.min(), steps.max() + 1, count + 1))]
    if (edges := _common([series[1] for series in every], min(count, LOSSES))) is not None:
        panels.append(("At equal training loss", Axis("training loss, all tasks"), 1, edges))
    y = Axis("pairs in conflict", share=True)
    return tuple(Curves(title, x, y, tuple(_curves(lines, which, edges)), CHANCE) for title, x, which, edges in panels)


def _common(losses: list[Array], count: int) -> Array | None:
    """Edges of windows of the losses that every run passed through; None if there are none."""
    known = [values[np.isfinite(values)] for values in losses]
    if not all(len(values) > 1 for values in known):
        return None
    low, high = max(values.min() for values in known), min(values.max() for values in known)
    return np.linspace(low, np.nextafter(high, np.inf), count + 1) if low < high else None


def _curves(lines: dict[Arm, dict[str, list[Series]]], which: int, edges: Array) -> list[Curve]:
    found = []
    for arm, by_name in lines.items():
        for name, seeds in by_name.items():
            style = replace(arm.style, dash="dash" if name.endswith(ALL) else "solid")
            values = np.stack([windows(series[which], series[2], edges) for series in seeds])  # (S, N)
            found.append(curve(name, style, values, edges))
    return found
