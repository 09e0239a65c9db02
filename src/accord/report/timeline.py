"""Quantities over time: means in windows of steps, then over seeds, with the range between the seeds as a band."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.conflict import rate
from accord.record import Record
from accord.report.chart import Array, Axis, Curve, Curves
from accord.report.palette import Style
from accord.report.study import Arm, Study

Measure = Callable[[Record], Array]
GramianMeasure = Callable[[Array], Array]
STEP = Axis("training step")
BAND_NOTE = "Lines are means over seeds in windows of steps; bands span the smallest to the largest seed."


def windows(index: NDArray[Any], values: Array, edges: Array, geometric: bool = False) -> Array:
    """Mean of the defined values in each window: ``values (T, ...), index (T,), edges (N+1,) -> (N, ...)``.

    Args:
        index: the steps at which the values were taken.
        values: NaN where undefined.
        edges: increasing; window n is ``edges[n] <= index < edges[n+1]``.
        geometric: the geometric mean, for positive quantities that are read as ratios.

    Returns:
        The means; NaN for windows without a defined value.

    Example:
        >>> windows(np.arange(4), np.array([1.0, 3.0, np.nan, 7.0]), np.array([0, 2, 4, 6]))
        array([ 2.,  7., nan])
    """
    if geometric:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(values > 0, np.log(values), np.nan)
    place = np.searchsorted(edges, index, side="right") - 1  # (T,)
    means = np.stack([rate(values[place == n], axis=0).value for n in range(len(edges) - 1)])  # (N, ...)
    return np.exp(means) if geometric else means


def over_seeds(records: Sequence[Record], measure: Measure, edges: Array, geometric: bool = False) -> Array:
    """The windowed measure of each record: ``(S, N, ...)`` for `S` seeds."""
    return np.stack([windows(record.index, measure(record), edges, geometric) for record in records])


def middle(values: Array, geometric: bool = False) -> Array:
    """Mean over seeds of the defined values: ``(S, ...) -> (...)``."""
    if not geometric:
        return rate(values, axis=0).value
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.exp(rate(np.log(values), axis=0).value)


def curve(name: str, style: Style, seeds: Array, edges: Array, geometric: bool = False) -> Curve:
    """One line with its band from ``seeds (S, N)``; windows without any value are left out.

    Args:
        name: its entry in the legend.
        style: its look.
        seeds: windowed values of each seed.
        edges: (N+1,) of the windows.
        geometric: the mean over seeds is geometric.
    """
    centre = (edges[:-1] + edges[1:]) / 2  # (N,)
    there = np.isfinite(seeds).any(axis=0)  # (N,)
    x, y = centre[there], middle(seeds, geometric)[there]
    if len(seeds) < 2:
        return Curve(name, x, y, style)
    low = np.fmin.reduce(seeds, axis=0)[there]
    high = np.fmax.reduce(seeds, axis=0)[there]
    return Curve(name, x, y, style, low, high)


def by_method(
    study: Study, title: str, y: Axis, measure: GramianMeasure, geometric: bool = False, level: float | None = None
) -> Curves:
    """One quantity of the whole Gramian, ``(T, K, K) -> (T,)``, over time, one line per method."""

    def line(arm: Arm) -> Curve:
        seeds = over_seeds(arm.measured, lambda record: measure(record.gramian), study.edges, geometric)  # (S, N)
        return curve(arm.label, arm.style, seeds, study.edges, geometric)

    return Curves(title, STEP, y, tuple(line(arm) for arm in study.arms if arm.measured), level)
