"""A view as a Matplotlib figure for papers: no global setting is changed and no window is opened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import singledispatch
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from accord.report.chart import Axis, Bars, Curves, Heat, Intervals, Panel, Points, View
from accord.report.palette import BAND, DIVERGING, GRID, HATCH, INK, REFERENCE, SEQUENTIAL, Style
from accord.report.text import lines, log_ticks, shorten, ticks, trimmed

SETTINGS: Any = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so that a figure is the same everywhere
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#6b7280",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID[0],
    "grid.linewidth": 0.6,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "pdf.fonttype": 42,  # embedded as TrueType: text stays text, and journals accept it
    "ps.fonttype": 42,
    "savefig.dpi": 200,
}
DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "triangle-down": "v",
    "star": "*",
    "x": "X",
}
SCALES = {"diverging": DIVERGING, "sequential": SEQUENTIAL}
PERCENT = FuncFormatter(lambda value, _: f"{trimmed(round(100 * value, 6))} %")
WIDTH = 3.4  # inches per panel: one column of a two-column paper


def figure(view: View, title: str = "") -> Figure:
    """All panels of a view in one figure with one legend; draw and save it inside ``settings()``.

    Example:
        >>> import numpy as np
        >>> from accord.report.chart import Axis, Curve, Curves
        >>> from accord.report.palette import task_style
        >>> curve = Curve("left", np.arange(3.0), np.ones(3), task_style(0))
        >>> with settings():
        ...     drawn = figure(View("", (Curves("Loss", Axis("step"), Axis("loss"), (curve,)),)))
        >>> drawn.axes[0].get_xlabel()
        'step'
    """
    rows, columns = grid_of(view)
    sizes = [_size(panel) for panel in view.panels]
    width = max(WIDTH, columns * max(width for width, _ in sizes))
    height = sum(max(height for _, height in sizes[r * columns : (r + 1) * columns]) for r in range(rows))
    names = ticks([name for name, _ in view.keys], 34)
    beside = max(1, int(width / (0.5 + 0.068 * max(map(len, names), default=1))))  # entries in a row of the legend
    rows_of_keys = math.ceil(len(names) / beside)
    out = Figure(figsize=(width, height + 0.19 * rows_of_keys + (0.25 if title else 0)), layout="constrained")
    FigureCanvasAgg(out)
    grid = out.subplots(rows, columns, squeeze=False)
    for axes, panel in zip(grid.flat, view.panels, strict=False):
        if len(view.panels) > 1:
            axes.set_title(_safe(panel.title, 44), loc="left")
        _draw(panel, axes)
    for axes in list(grid.flat)[len(view.panels) :]:
        axes.remove()
    if title:
        out.suptitle(_safe(title, 44 * columns), x=0.01, ha="left", fontsize=9, fontweight="bold")
    if view.keys:
        handles = [_handle(name, style, view.panels[0]) for name, (_, style) in zip(names, view.keys, strict=True)]
        out.legend(handles=handles, loc="outside lower left", ncols=beside)
    return out


def grid_of(view: View) -> tuple[int, int]:
    """Rows and columns in which the panels of a view stand.

    Example:
        >>> grid_of(View("", missing="no data"))
        (0, 0)
    """
    columns = 2 if len(view.panels) == 4 else min(len(view.panels), 3)
    return (math.ceil(len(view.panels) / columns), columns) if columns else (0, 0)


def settings() -> AbstractContextManager[None]:
    """A context in which Matplotlib draws like this report; on leaving it everything is as before."""
    return mpl.rc_context(SETTINGS)


@singledispatch
def _draw(panel: Panel, axes: Axes) -> None:
    raise TypeError(f"found a panel of type {type(panel).__name__}, expected one of {Panel}")


@_draw.register
def _curves(panel: Curves, axes: Axes) -> None:
    for curve in panel.curves:
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=curve.style.colour, alpha=BAND, linewidth=0)
        marker = MARKERS[curve.style.marker] if len(curve.x) < 3 else ""
        axes.plot(
            curve.x, curve.y, DASHES[curve.style.dash], color=curve.style.colour, linewidth=1.3, marker=marker, ms=4
        )
    if panel.level is not None:
        axes.axhline(panel.level, color=REFERENCE[0], linewidth=0.8, linestyle=":")
    _axes(axes, panel.x, panel.y)
    if panel.y.log:
        places = log_ticks(*panel.extent)
        axes.set_yticks(places, [f"{place:g}" for place in places])
        axes.yaxis.set_minor_locator(NullLocator())
    values = np.concatenate([curve.x for curve in panel.curves]) if panel.curves else np.empty(0)  # (N,)
    if panel.x.log and len(values):
        places = log_ticks(float(values.min()), float(values.max()))
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.xaxis.set_minor_locator(NullLocator())
    elif not panel.x.share and np.array_equal(values, np.round(values)):  # steps, phases: nothing happens between them
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


@_draw.register
def _heat(panel: Heat, axes: Axes) -> None:
    columns = panel.values.shape[1]
    colours = LinearSegmentedColormap.from_list(panel.scale, [light for light, _ in SCALES[panel.scale]])
    image = axes.imshow(
        panel.values,
        cmap=colours,
        vmin=panel.limits[0],
        vmax=panel.limits[1],
        aspect="equal" if panel.square else "auto",
        interpolation="nearest",
    )
    for r, c in panel.undefined:
        axes.add_patch(Rectangle((c - 0.5, r - 0.5), 1, 1, fill=False, hatch="/////", edgecolor=HATCH[0], linewidth=0))
    if panel.square and columns <= 12:
        for (r, c), value in np.ndenumerate(panel.values):
            if np.isfinite(value):
                red, green, blue, _ = colours((value - panel.limits[0]) / (panel.limits[1] - panel.limits[0]))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
                axes.text(
                    c, r, panel.cell(value), ha="center", va="center", fontsize=6.5, color="white" if dark else INK[0]
                )
    axes.grid(False)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02)
    bar.set_label(_safe(panel.z.label))
    bar.outline.set_visible(False)
    if panel.z.share:
        bar.ax.yaxis.set_major_formatter(PERCENT)
    _ticks(axes, "x", panel.columns, 12 if panel.square else 8)
    _ticks(axes, "y", panel.rows, 60)
    axes.set_xlabel(_safe(panel.x.label))
    axes.set_ylabel(_safe(panel.y.label))


@_draw.register
def _bars(panel: Bars, axes: Axes) -> None:
    places = np.arange(len(panel.categories))
    width = 0.8 / max(len(panel.bars), 1)
    for i, bar in enumerate(panel.bars):
        at = places + (i - (len(panel.bars) - 1) / 2) * width
        axes.bar(at, bar.values, width * 0.92, color=bar.style.colour)
        if bar.low is not None and bar.high is not None:
            errors = np.stack([bar.values - bar.low, bar.high - bar.values])
            axes.errorbar(at, bar.values, errors, fmt="none", ecolor=INK[0], elinewidth=0.7, capsize=1.5)
    _axes(axes, Axis(""), panel.y)
    axes.set_xticks(places, ["\n".join(map(_safe, lines(name))) for name in panel.categories])
    axes.grid(False, axis="x")
    if panel.limit is not None:
        axes.set_ylim(0, panel.limit)


@_draw.register
def _points(panel: Points, axes: Axes) -> None:
    if panel.front is not None:
        axes.plot(panel.front[:, 0], panel.front[:, 1], "-", color=REFERENCE[0], linewidth=0.7, zorder=1)
    for point in panel.points:
        axes.errorbar(
            point.x,
            point.y,
            _error(point.y, point.y_interval),
            _error(point.x, point.x_interval),
            fmt=MARKERS[point.style.marker],
            color=point.style.colour,
            ms=6,
            elinewidth=0.8,
            capsize=2,
            markeredgecolor="white",
            markeredgewidth=0.6,
        )
    if panel.corner is not None:
        x, y, name = panel.corner
        if x is not None:
            axes.axvline(x, color=REFERENCE[0], linewidth=0.8, linestyle=":")
        if y is not None:
            axes.axhline(y, color=REFERENCE[0], linewidth=0.8, linestyle=":")
            axes.annotate(
                _safe(name),
                (0, y),
                (2, 2),
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
                fontsize=6.5,
                color=REFERENCE[0],
            )
    _axes(axes, panel.x, panel.y)


@_draw.register
def _intervals(panel: Intervals, axes: Axes) -> None:
    for place, row in enumerate(panel.rows):
        axes.plot(row.single, np.full(len(row.single), place), "|", color=row.style.colour, alpha=0.6, ms=6)
        axes.errorbar(
            row.value,
            place,
            xerr=_error(row.value, row.interval),
            fmt=MARKERS[row.style.marker],
            ms=5.5,
            color=row.style.colour,
            elinewidth=1,
            capsize=2,
            markeredgecolor="white",
            markeredgewidth=0.6,
        )
    axes.axvline(panel.level, color=INK[0], linewidth=0.7)
    _axes(axes, panel.x, Axis(""))
    _ticks(axes, "y", [row.name for row in panel.rows], 60)
    axes.set_ylim(len(panel.rows) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    if panel.limits is not None:
        axes.set_xlim(*panel.limits)


def _size(panel: Panel) -> tuple[float, float]:
    match panel:
        case Heat(square=True):
            side = max(2.2, 0.42 * len(panel.rows) + 1.4)
            return side + 0.7, side
        case Heat():
            return WIDTH + 0.4, 1.1 + 0.2 * len(panel.rows)
        case Intervals():
            return WIDTH, 0.8 + 0.24 * len(panel.rows)
        case Points():
            return WIDTH, 2.8
        case _:
            return WIDTH, 2.2


def _axes(axes: Axes, x: Axis, y: Axis) -> None:
    axes.set_xlabel(_safe(x.label))
    axes.set_ylabel(_safe(y.label))
    for side, name in ((x, "x"), (y, "y")):
        if side.log:
            getattr(axes, f"set_{name}scale")("log")
        if side.share:
            getattr(axes, f"{name}axis").set_major_formatter(PERCENT)


def _ticks(axes: Axes, side: str, names: Sequence[str], most: int) -> None:
    step = max(1, math.ceil(len(names) / most))
    places = list(range(0, len(names), step))
    labels = [_safe(label) for label in ticks(names, 22 if side == "x" else 28)[::step]]
    crowded = side == "x" and sum(map(len, labels)) > 34
    turn = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    getattr(axes, f"set_{side}ticks")(places, labels, **turn)


def _error(value: float, interval: tuple[float, float] | None) -> list[list[float]] | None:
    if interval is None or not np.isfinite(interval).all():
        return None
    return [[value - interval[0]], [interval[1] - value]]


def _handle(name: str, style: Style, panel: Panel) -> Line2D | Patch:
    if isinstance(panel, Bars):
        return Patch(color=style.colour, label=_safe(name, 40))
    if isinstance(panel, Points):
        return Line2D([], [], color=style.colour, marker=MARKERS[style.marker], linestyle="", label=_safe(name, 40))
    return Line2D([], [], color=style.colour, ls=DASHES[style.dash], label=_safe(name, 40))


def _safe(name: str, limit: int = 60) -> str:
    """Matplotlib reads mathematics between dollar signs: names are shown as they are."""
    return shorten(name, limit).replace("$", r"\$")
