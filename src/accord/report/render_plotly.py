"""A panel as a Plotly figure, in the colours of the white page; nothing in it is fetched from anywhere.

Axes carry numbers with the names as tick labels: a task that is called ``1`` stays a name, and two long names that
are shortened alike stay two.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from functools import singledispatch

import numpy as np
import plotly.graph_objects as go

from accord.report.chart import Array, Axis, Bars, Curves, Heat, Intervals, Panel, Points
from accord.report.palette import BAND, DIVERGING, GRID, HATCH, INK, PAPER, REFERENCE, SEQUENTIAL, rgba
from accord.report.text import lines, log_ticks, shorten, ticks

GRID_COLOUR, PAPER_COLOUR, INK_COLOUR, REFERENCE_COLOUR = GRID[0], PAPER[0], INK[0], REFERENCE[0]
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif'
SCALES = {"diverging": DIVERGING, "sequential": SEQUENTIAL}


def figure(panel: Panel) -> go.Figure:
    """The panel as a figure without title, legend or colour scale: the page writes them around it.

    Example:
        >>> from accord.report.chart import Axis, Curve, Curves
        >>> from accord.report.palette import task_style
        >>> curve = Curve("left", np.arange(3.0), np.ones(3), task_style(0))
        >>> figure(Curves("Loss", Axis("step"), Axis("loss"), (curve,))).data[0].meta
        'left'
    """
    return _draw(panel)


@singledispatch
def _draw(panel: Panel) -> go.Figure:
    raise TypeError(f"found a panel of type {type(panel).__name__}, expected one of {Panel}")


@_draw.register
def _curves(panel: Curves) -> go.Figure:
    out = _empty(panel.x, panel.y, 270)
    for curve in panel.curves:
        if curve.low is not None and curve.high is not None:
            for x, low, high in _stretches(curve.x, curve.low, curve.high):
                out.add_scatter(
                    x=np.concatenate([x, x[::-1]]),
                    y=np.concatenate([high, low[::-1]]),
                    mode="lines",
                    line={"width": 0},
                    fill="toself",
                    fillcolor=rgba(curve.style.colour, BAND),
                    hoverinfo="skip",
                    meta=curve.name,
                )
    for curve, name in zip(panel.curves, ticks([curve.name for curve in panel.curves]), strict=True):
        lonely = len(curve.x) < 3
        out.add_scatter(
            x=curve.x,
            y=curve.y,
            mode="lines+markers" if lonely else "lines",
            meta=curve.name,
            line={"color": curve.style.colour, "width": 2, "dash": curve.style.dash},
            marker={"color": curve.style.colour, "size": 6, "symbol": curve.style.marker},
            hovertemplate=f"%{{y:{_format(panel.y)}}}  %{{text}}<extra></extra>",  # one line each in a common box
            text=_safe(name),
        )
    if panel.level is not None:
        out.add_hline(y=panel.level, line={"color": REFERENCE_COLOUR, "width": 1, "dash": "dot"})
    if panel.y.log:
        places = log_ticks(*panel.extent)
        out.update_yaxes(tickmode="array", tickvals=places, ticktext=[f"{place:g}" for place in places])
    out.update_xaxes(hoverformat=".0f", unifiedhovertitle={"text": f"{_safe(panel.x.label)} %{{x:.0f}}"})
    out.update_layout(hovermode="x unified" if len(panel.curves) <= 8 else "closest")
    return out


@_draw.register
def _heat(panel: Heat) -> go.Figure:
    rows, columns = panel.values.shape
    out = _empty(panel.x, panel.y, int(62 + (min(max(300 / rows, 30), 72) if panel.square else 26) * rows))
    few = panel.square and columns <= 12
    names = [[f"{_safe(r, 60)} · {_safe(c, 60)}" for c in panel.columns] for r in panel.rows]
    scale = [(i / (len(SCALES[panel.scale]) - 1), light) for i, (light, _) in enumerate(SCALES[panel.scale])]
    out.add_heatmap(
        z=panel.values,
        customdata=names,
        colorscale=scale,
        zmin=panel.limits[0],
        zmax=panel.limits[1],
        xgap=1,
        ygap=1,
        hoverongaps=False,
        hovertemplate=_hover("%{customdata}", panel.z, "z"),
        showscale=False,
        text=[["" if np.isnan(z) else panel.cell(z) for z in row] for row in panel.values] if few else None,
        texttemplate="%{text}" if few else None,
    )
    undefined = panel.undefined  # (N, 2)
    if len(undefined):  # hatched bars, one per undefined cell: a heat map itself knows no pattern
        out.add_bar(
            x=undefined[:, 1],
            base=undefined[:, 0] - 0.48,
            y=np.full(len(undefined), 0.96),
            width=0.96,
            text=[names[r][c] for r, c in undefined],
            textposition="none",
            hovertemplate="%{text}<br>undefined<extra></extra>",
            marker={
                "color": "rgba(0,0,0,0)",
                "line": {"width": 0},
                "pattern": {"shape": "/", "fgcolor": HATCH[0], "size": 6, "solidity": 0.15},
            },
        )
    _ticks(out.layout.xaxis, panel.columns, 24 if panel.square else 7)
    _ticks(out.layout.yaxis, panel.rows)
    out.update_layout(barmode="overlay", xaxis={"range": [-0.5, columns - 0.5], "showgrid": False})
    out.update_yaxes(range=[rows - 0.5, -0.5], showgrid=False, zeroline=False)
    out.update_xaxes(zeroline=False)
    return out


@_draw.register
def _bars(panel: Bars) -> go.Figure:
    out = _empty(Axis(""), panel.y, 250)
    for bar in panel.bars:
        out.add_bar(
            x=np.arange(len(panel.categories)),
            y=bar.values,
            meta=bar.name,
            error_y=_whiskers(bar.values, bar.low, bar.high),
            marker={"color": bar.style.colour, "line": {"width": 0}},
            text=[_safe(bar.name, 40)] * len(bar.values),
            textposition="none",
            hovertemplate=_hover("%{text}", panel.y, "y"),
        )
    _ticks(out.layout.xaxis, panel.categories)
    out.update_xaxes(ticktext=["<br>".join(map(_safe, lines(name))) for name in panel.categories], tickangle=0)
    out.update_layout(bargap=0.25, bargroupgap=0.08, xaxis={"showgrid": False})
    if panel.limit is not None:
        out.update_yaxes(range=[0, panel.limit])
    return out


@_draw.register
def _points(panel: Points) -> go.Figure:
    out = _empty(panel.x, panel.y, 360)
    if panel.front is not None:
        out.add_scatter(
            x=panel.front[:, 0],
            y=panel.front[:, 1],
            mode="lines",
            line={"color": REFERENCE_COLOUR, "width": 1},
            hoverinfo="skip",
        )
    for point in panel.points:
        out.add_scatter(
            x=[point.x],
            y=[point.y],
            mode="markers",
            meta=point.name,
            text=[_safe(point.name, 40) + (f"<br>{_safe(point.note)}" if point.note else "")],
            error_x=_error(point.x, point.x_interval),
            error_y=_error(point.y, point.y_interval),
            marker={
                "color": point.style.colour,
                "symbol": point.style.marker,
                "size": 12,
                "line": {"width": 1, "color": PAPER_COLOUR},
            },
            hovertemplate="%{text}<br>" + f"{_safe(panel.x.label)}: %{{x:{_format(panel.x)}}}<br>"
            f"{_safe(panel.y.label)}: %{{y:{_format(panel.y)}}}<extra></extra>",
        )
    if panel.corner is not None:
        x, y, name = panel.corner
        line = {"color": REFERENCE_COLOUR, "width": 1, "dash": "dot"}
        if y is not None:
            out.add_hline(
                y=y,
                line=line,
                annotation_text=_safe(name),
                annotation_position="top left",
                annotation_font={"size": 11, "color": REFERENCE_COLOUR},
            )
        if x is not None:
            out.add_vline(x=x, line=line)
    for values, axis in ((_xs(panel), out.layout.xaxis), (_ys(panel), out.layout.yaxis)):
        if len(set(values)) == 1:  # a lonely mark would get an axis from -1 to 1 around it
            axis.range = (values[0] - 0.05 * (abs(values[0]) or 1), values[0] + 0.05 * (abs(values[0]) or 1))
    out.update_layout(hovermode="closest")
    return out


def _xs(panel: Points) -> list[float]:
    return [x for p in panel.points for x in (p.x, *(p.x_interval or ()))]


def _ys(panel: Points) -> list[float]:
    return [y for p in panel.points for y in (p.y, *(p.y_interval or ()))]


@_draw.register
def _intervals(panel: Intervals) -> go.Figure:
    out = _empty(panel.x, Axis(""), 88 + 32 * len(panel.rows))
    for place, row in enumerate(panel.rows):
        out.add_scatter(
            x=row.single,
            y=np.full(len(row.single), place),
            mode="markers",
            hoverinfo="skip",
            meta=row.name,
            marker={"symbol": "line-ns", "size": 9, "line": {"width": 1.5, "color": row.style.colour}},
            opacity=0.55,
        )
        out.add_scatter(
            x=[row.value],
            y=[place],
            mode="markers",
            meta=row.name,
            text=[_safe(row.name, 40)],
            error_x=_error(row.value, row.interval),
            marker={
                "color": row.style.colour,
                "symbol": row.style.marker,
                "size": 11,
                "line": {"width": 1, "color": PAPER_COLOUR},
            },
            hovertemplate=_hover("%{text}", panel.x, "x"),
        )
    out.add_vline(x=panel.level, line={"color": INK_COLOUR, "width": 1})
    _ticks(out.layout.yaxis, [row.name for row in panel.rows])
    out.update_yaxes(range=[len(panel.rows) - 0.5, -0.5], showgrid=False, zeroline=False)
    out.update_xaxes(nticks=5, tickangle=0)
    if panel.limits is not None:
        out.update_xaxes(range=panel.limits)
    return out


def _empty(x: Axis, y: Axis, height: int) -> go.Figure:
    axis = {
        "gridcolor": GRID_COLOUR,
        "zeroline": False,
        "linecolor": GRID_COLOUR,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "rgba(0,0,0,0)",
        "automargin": True,
        "fixedrange": False,
    }

    def drawn(side: Axis) -> dict[str, object]:
        return (
            axis
            | {
                "title": {"text": _safe(side.label, 40), "standoff": 8},
                "type": "log" if side.log else "linear",
                "tickformat": "~%" if side.share else None,
            }
            | ({"minor": {"showgrid": False}, "exponentformat": "power"} if side.log else {})
        )

    layout = go.Layout(
        template="none",
        height=height,
        showlegend=False,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 12, "t": 10, "b": 8},
        font={"size": 12, "color": INK_COLOUR, "family": FONT},
        xaxis=drawn(x),
        yaxis=drawn(y),
        hoverlabel={
            "align": "left",
            "bgcolor": PAPER_COLOUR,
            "bordercolor": GRID_COLOUR,
            "font": {"color": INK_COLOUR, "family": FONT, "size": 12},
        },
    )
    return go.Figure(layout=layout)


def _ticks(axis: go.layout.XAxis | go.layout.YAxis, names: Sequence[str], most: int = 48) -> None:
    """Names at 0, 1, 2 ...; where there are too many, some."""
    places = list(range(0, len(names), max(1, math.ceil(len(names) / most))))
    labels = ticks(names)
    axis.update(tickmode="array", tickvals=places, ticktext=[_safe(labels[i]) for i in places], type="linear")


def _stretches(x: Array, low: Array, high: Array) -> list[tuple[Array, Array, Array]]:
    """The band in pieces without gaps: a filled outline may not cross an undefined stretch."""
    fine = np.isfinite(low) & np.isfinite(high)
    cuts = np.flatnonzero(np.diff(fine.astype(int))) + 1
    pieces = np.split(np.arange(len(x)), cuts)
    return [(x[piece], low[piece], high[piece]) for piece in pieces if len(piece) and fine[piece[0]]]


def _whiskers(values: Array, low: Array | None, high: Array | None) -> dict[str, object] | None:
    if low is None or high is None:
        return None
    return {
        "type": "data",
        "symmetric": False,
        "array": high - values,
        "arrayminus": values - low,
        "color": INK_COLOUR,
        "thickness": 1,
        "width": 3,
    }


def _error(value: float, interval: tuple[float, float] | None) -> dict[str, object] | None:
    if interval is None or not np.isfinite(interval).all():
        return None
    return {
        "type": "data",
        "symmetric": False,
        "array": [interval[1] - value],
        "arrayminus": [value - interval[0]],
        "thickness": 1.5,
        "width": 4,
    }


def _format(axis: Axis) -> str:
    return ".1%" if axis.share else ".4~g"


def _hover(first: str, axis: Axis, letter: str) -> str:
    return f"{first}<br>%{{{letter}:{_format(axis)}}}<extra></extra>"


def _safe(name: str, limit: int = 80) -> str:
    """Plotly reads a part of HTML in every text: names are shown as they are."""
    return html.escape(shorten(name, limit), quote=False)
