"""Drawing: from values over seeds to the parts of pictures and tables, always with the interval of the mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from accord.bench.stats import interval
from accord.report.chart import Bar, Curve, Interval, Point
from accord.report.palette import Style


def line(name: str, x: Sequence[float], values: Any, style: Style) -> Curve:
    """The mean over seeds as a line, with the 95 % interval of the mean as its band.

    Args:
        name: in the legend.
        x: (T,).
        values: (S, T); what is NaN for a seed is left out of that point.
        style: of the line.

    Example:
        >>> from accord.report.palette import method_style
        >>> line("a", [0, 1], [[1.0, 2.0], [3.0, 2.0]], method_style(0)).y
        array([2., 2.])
    """
    found = [interval(column) for column in np.asarray(values, np.float64).T.tolist()]
    mean, low, high = (np.array([getattr(f, part) for f in found]) for part in ("mean", "low", "high"))  # (T,) each
    return Curve(name, np.asarray(x, np.float64), mean, style, low, high)


def estimate(name: str, values: Any, style: Style) -> Interval:
    """A mean with its interval, and the single seeds as dots.

    Args:
        name: of the row.
        values: (S,).
        style: of the marks.
    """
    single = np.asarray(values, np.float64)  # (S,)
    found = interval(single.tolist())
    return Interval(name, found.mean, (found.low, found.high), single, style)


def bar(name: str, values: Any, style: Style) -> Bar:
    """Means with intervals over named categories.

    Args:
        name: in the legend.
        values: (C, S).
        style: of the bars.
    """
    found = [interval(row) for row in np.asarray(values, np.float64).tolist()]
    mean, low, high = (np.array([getattr(f, part) for f in found]) for part in ("mean", "low", "high"))  # (C,) each
    return Bar(name, mean, style, low, high)


def text(values: Any) -> str:
    """A mean with its interval as text.

    Example:
        >>> text([1.0, 2.0, 3.0])
        '2 [-0.484, 4.48]'
    """
    return str(interval(np.asarray(values, np.float64).tolist()))


def point(name: str, x: Any, y: Any, style: Style, note: str = "") -> Point:
    """A mark at the means of two measures, with both intervals.

    Args:
        name: in the legend.
        x: (S,).
        y: (S,).
        style: of the mark.
        note: what else is to be said about it.

    Example:
        >>> from accord.report.palette import method_style
        >>> point("a", [1.0, 3.0], [0.0, 1.0], method_style(0)).y
        0.5
    """
    one, other = (interval(np.asarray(values, np.float64).tolist()) for values in (x, y))
    return Point(name, one.mean, other.mean, style, (one.low, one.high), (other.low, other.high), note)
