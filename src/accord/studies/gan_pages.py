"""Panels and tables that the GAN studies share: one row, mark or line per arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accord.bench.stats import interval
from accord.report.chart import Axis, Curve, Curves, Interval, Intervals, Point, Points
from accord.report.palette import Style, method_style, reference_style
from accord.report.table import Column, Table
from accord.studies.study import Results

CONFLICT = ("cosine", "corrected", "conflict", "floor", "norm ratio", "survival")


def style(number: int, name: str) -> Style:
    """Grey for plain sums, a colour for everything else."""
    return reference_style() if name.startswith("sum") else method_style(number)


def plane(results: Results, arms: Sequence[str], x: str, y: str, front: Sequence[str]) -> Points:
    """Two measures of each arm, means with 95 % intervals; the line leads through the static weights."""
    marks = []
    for number, arm in enumerate(arms):
        xs, ys = (interval(results.values(name, arm=arm).tolist()) for name in (x, y))
        marks.append(Point(arm, xs.mean, ys.mean, style(number, arm), (xs.low, xs.high), (ys.low, ys.high)))
    line = np.array([[results.values(name, arm=arm).mean() for name in (x, y)] for arm in front])  # (W, 2)
    return Points(f"{y} against {x}", Axis(x), Axis(y), tuple(marks), front=line)


def course(results: Results, arms: Sequence[str], measure: str) -> Curves:
    """A measure over the training, means with 95 % intervals."""
    lines = []
    for number, arm in enumerate(arms):
        every = results.curve(f"{measure} curve", arm=arm)  # (S, T)
        found = [interval(column.tolist()) for column in every.T]
        mean, low, high = (np.array([getattr(one, end) for one in found]) for end in ("mean", "low", "high"))
        lines.append(Curve(arm, results.curve("steps", arm=arm)[0], mean, style(number, arm), low, high))
    return Curves(f"{measure} over the training", Axis("step"), Axis(measure), tuple(lines))


def over_looks(results: Results, arm: str, measures: Sequence[str], every: int) -> Curves:
    """Several measures of one arm at each look, means with 95 % intervals.

    Args:
        results: rows with ``arm``.
        arm: which.
        measures: lists of one number per look.
        every: steps between looks.
    """
    lines = []
    for number, name in enumerate(measures):
        found = [interval(column.tolist()) for column in results.curve(name, arm=arm).T]
        mean, low, high = (np.array([getattr(one, end) for one in found]) for end in ("mean", "low", "high"))
        lines.append(Curve(name, every * np.arange(len(mean), dtype=np.float64), mean, method_style(number), low, high))
    return Curves("cosine over the training", Axis("step"), Axis("cosine"), tuple(lines), level=0.0)


def rows(title: str, results: Results, measure: str, arms: Sequence[str], level: float = 0.0) -> Intervals:
    """One measure of each arm with its interval and the values of the seeds."""
    out = []
    for number, arm in enumerate(arms):
        every = results.values(measure, arm=arm)  # (S,)
        found = interval(every.tolist())
        out.append(Interval(arm, found.mean, (found.low, found.high), every, style(number, arm)))
    return Intervals(title, Axis(measure), tuple(out), level)


def table(
    title: str, results: Results, arms: Sequence[str], measures: Sequence[str],
    extra: Mapping[str, Mapping[str, Any]],
) -> Table:  # fmt: skip
    """Means with 95 % intervals, an arm in each row.

    Args:
        title: of the table.
        results: rows with ``arm``.
        arms: which.
        measures: columns that are in the rows.
        extra: further columns, by name and arm, (S,) each.
    """
    cells = [
        (
            arm,
            *(str(interval(results.values(name, arm=arm).tolist())) for name in measures),
            *(str(interval(np.asarray(values[arm]).tolist())) for values in extra.values()),
        )
        for arm in arms
    ]
    columns = (Column("arm", words=True), *map(Column, (*measures, *extra)))
    return Table(title, columns, tuple(cells), "Means over seeds with 95 % t-intervals.")


def conflict_table(results: Results, arms: Sequence[str], nets: Sequence[str] = ("G",)) -> Table:
    """Conflict, its noise, and harm, in the second half of the training."""
    measures = [f"{net} {name}" for net in nets for name in CONFLICT] + ["harm sum", "harm step"]
    found = table("Conflict and harm", results, arms, measures, {})
    caption = (
        "G: generator, D: discriminator; second half of the training. cosine and conflict (share of looks below 0): on "
        "one batch. corrected: cosine without the noise of the draw, from halves of the batch. floor: how often a loss "
        "is in conflict with itself on other data. norm ratio: adversarial over the other. survival: what a projection "
        "of one on the other would leave of its length. harm: share of looks at which the plain sum, or Adam's step, "
        "raises some loss to first order."
    )
    return Table(found.title, found.columns, found.rows, caption)
