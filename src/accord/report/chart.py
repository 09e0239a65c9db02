"""A chart as plain data: what is drawn, apart from who draws it.

``plot: (Study) -> Chart``;  ``render: (Panel) -> figure``.

A `Chart` holds one `View` per choice of its selector (one method, one pair of tasks), a view holds panels that
stand side by side, and a `Panel` is one of five kinds: `Curves`, `Heat`, `Bars`, `Points`, `Intervals`. Undefined
values are NaN everywhere and are shown as undefined, never as zero. Letters: `R` rows, `C` columns, `N` points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from accord.report.palette import Style
from accord.report.table import Column, Table
from accord.report.text import fixed, number, share

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis: its label, whether it is logarithmic, and whether its values are shares in [0, 1]."""

    label: str
    log: bool = False
    share: bool = False

    def show(self, value: float) -> str:
        """The value as text, as this axis would print it."""
        return share(value) if self.share else number(value)


@dataclass(frozen=True, eq=False)
class Curve:
    """One line: ``x, y (N,)``, with an optional band ``low, high (N,)``."""

    name: str
    x: Array
    y: Array
    style: Style
    low: Array | None = None
    high: Array | None = None


@dataclass(frozen=True, eq=False)
class Curves:
    """Lines over a common axis; ``level`` draws a horizontal line of reference."""

    kind: ClassVar = "curves"
    title: str
    x: Axis
    y: Axis
    curves: tuple[Curve, ...]
    level: float | None = None

    @property
    def extent(self) -> tuple[float, float]:
        """Smallest and largest defined value of lines, bands and level; (1, 1) without any."""
        parts = [part for c in self.curves for part in (c.y, c.low, c.high) if part is not None]
        values = np.concatenate([*parts, np.array([] if self.level is None else [self.level])])
        values = values[np.isfinite(values) & ((values > 0) | (not self.y.log))]
        return (float(values.min()), float(values.max())) if len(values) else (1.0, 1.0)

    @property
    def keys(self) -> tuple[tuple[str, Style], ...]:
        """Entries of the legend."""
        return tuple((curve.name, curve.style) for curve in self.curves)

    def table(self) -> Table:
        """The numbers behind the picture."""
        axis = np.unique(np.concatenate([curve.x for curve in self.curves] or [np.empty(0)]))  # (N,)
        at = [{float(x): (c, i) for i, x in enumerate(c.x)} for c in self.curves]
        rows = [(number(x), *(_banded(self.y, *known[x]) if x in known else "" for known in at)) for x in axis.tolist()]
        return Table(self.title, (Column(self.x.label), *(Column(c.name) for c in self.curves)), tuple(rows))


@dataclass(frozen=True, eq=False)
class Heat:
    """``values (R, C)`` by named rows and columns; NaN is undefined and hatched, unless it is ``blank``.

    ``scale`` is ``diverging`` (the middle of ``limits`` is neutral) or ``sequential``.
    """

    kind: ClassVar = "heat"
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Array
    z: Axis
    limits: tuple[float, float]
    scale: Literal["diverging", "sequential"]
    x: Axis
    y: Axis
    square: bool = False
    blank: NDArray[np.bool_] | None = None  # (R, C) cells that stand for nothing, such as a task with itself
    keys: ClassVar[tuple[tuple[str, Style], ...]] = ()

    @property
    def undefined(self) -> NDArray[np.intp]:
        """(N, 2) row and column of each cell to hatch."""
        return np.argwhere(np.isnan(self.values) & (True if self.blank is None else ~self.blank))

    def cell(self, value: float) -> str:
        """A value as it stands in its cell."""
        return share(value) if self.z.share else fixed(value, 2)

    def table(self) -> Table:
        """The numbers behind the picture."""
        rows = tuple((name, *map(self.z.show, row)) for name, row in zip(self.rows, self.values.tolist(), strict=True))
        return Table(self.title, (Column(self.y.label), *map(Column, self.columns)), rows)


@dataclass(frozen=True, eq=False)
class Bar:
    """One group's bars: ``values (C,)`` with optional whiskers ``low, high (C,)``."""

    name: str
    values: Array
    style: Style
    low: Array | None = None
    high: Array | None = None


@dataclass(frozen=True, eq=False)
class Bars:
    """Grouped bars over named categories; ``limit`` fixes the top of the axis so that panels compare."""

    kind: ClassVar = "bars"
    title: str
    categories: tuple[str, ...]
    bars: tuple[Bar, ...]
    y: Axis
    limit: float | None = None

    @property
    def keys(self) -> tuple[tuple[str, Style], ...]:
        """Entries of the legend."""
        return tuple((bar.name, bar.style) for bar in self.bars)

    def table(self) -> Table:
        """The numbers behind the picture."""
        rows = [
            (name, *(_ranged(self.y, b.values[c], b.low, b.high, c) for b in self.bars))
            for c, name in enumerate(self.categories)
        ]
        return Table(self.title, (Column(""), *(Column(b.name) for b in self.bars)), tuple(rows))


@dataclass(frozen=True, eq=False)
class Point:
    """One mark with optional intervals in both directions, each ``(low, high)``; ``note`` says more about it."""

    name: str
    x: float
    y: float
    style: Style
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Points:
    """Marks in a plane; ``corner = (x, y, name)`` draws the two lines of a reference and names their crossing.

    ``front (N, 2)`` are the corners of a thin line behind the marks.
    """

    kind: ClassVar = "points"
    title: str
    x: Axis
    y: Axis
    points: tuple[Point, ...]
    corner: tuple[float | None, float | None, str] | None = None
    front: Array | None = None

    @property
    def keys(self) -> tuple[tuple[str, Style], ...]:
        """Entries of the legend."""
        return tuple((point.name, point.style) for point in self.points)

    def table(self) -> Table:
        """The numbers behind the picture."""
        rows = [
            (
                f"{p.name}, {p.note}" if p.note else p.name,
                _spread(self.x, p.x, p.x_interval),
                _spread(self.y, p.y, p.y_interval),
            )
            for p in self.points
        ]
        return Table(self.title, (Column(""), Column(self.x.label), Column(self.y.label)), tuple(rows))


@dataclass(frozen=True, eq=False)
class Interval:
    """One row: an estimate, its interval if there is one, and the single values (N,) behind it."""

    name: str
    value: float
    interval: tuple[float, float] | None
    single: Array
    style: Style


@dataclass(frozen=True, eq=False)
class Intervals:
    """Estimates with intervals, one row each, beside a line of reference at ``level``."""

    kind: ClassVar = "intervals"
    title: str
    x: Axis
    rows: tuple[Interval, ...]
    level: float = 0.0
    limits: tuple[float, float] | None = None
    keys: ClassVar[tuple[tuple[str, Style], ...]] = ()

    def table(self) -> Table:
        """The numbers behind the picture."""
        rows = [
            (r.name, _spread(self.x, r.value, r.interval), ", ".join(map(self.x.show, r.single.tolist())))
            for r in self.rows
        ]
        return Table(self.title, (Column(""), Column(self.x.label), Column("each seed")), tuple(rows))


Panel = Curves | Heat | Bars | Points | Intervals


@dataclass(frozen=True, eq=False)
class View:
    """What is seen for one choice of the selector; without panels, ``missing`` says why there is nothing."""

    label: str
    panels: tuple[Panel, ...] = ()
    missing: str = ""

    @property
    def keys(self) -> tuple[tuple[str, Style], ...]:
        """Entries of the legend over all panels, each name once."""
        return tuple({name: (name, style) for panel in self.panels for name, style in panel.keys}.values())


@dataclass(frozen=True, eq=False)
class Chart:
    """A titled chart.

    Args:
        name: its name in the registry; the stem of the file names of its figures.
        section: the part of the page where it stands.
        title: what it shows.
        reading: one or two plain sentences: what this shows and how to read it.
        views: one per choice; a single one needs no selector.
        select: what is chosen between the views, ``Method`` or ``Pair of tasks``.
        notes: what else the reader has to know, for instance what was left out.
        wide: takes the whole width of the page.
    """

    name: str
    section: str
    title: str
    reading: str
    views: tuple[View, ...]
    select: str = ""
    notes: tuple[str, ...] = ()
    wide: bool = True

    @property
    def missing(self) -> str:
        """Why no view has anything to show; empty if one does."""
        return "" if not self.views or any(view.panels for view in self.views) else self.views[0].missing


def _ranged(axis: Axis, value: float, low: Array | None, high: Array | None, i: int) -> str:
    return _spread(axis, float(value), None if low is None or high is None else (float(low[i]), float(high[i])))


def _banded(axis: Axis, curve: Curve, i: int) -> str:
    return _ranged(axis, float(curve.y[i]), curve.low, curve.high, i)


def _spread(axis: Axis, value: float, interval: tuple[float, float] | None) -> str:
    if interval is None or not np.isfinite(interval).all():
        return axis.show(value)
    return f"{axis.show(value)} [{axis.show(interval[0])}, {axis.show(interval[1])}]"
