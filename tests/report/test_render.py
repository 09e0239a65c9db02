"""Both renderers draw the same data, show undefined values as undefined, and take names as they are."""

from __future__ import annotations

import io

import numpy as np
import pytest

from accord.report import render_matplotlib, render_plotly
from accord.report.chart import Axis, Bar, Bars, Curve, Curves, Heat, Interval, Intervals, Point, Points, View
from accord.report.palette import method_style, task_style

NAME = "<b>$a$</b> & 50 %"
X = np.arange(4.0)
GAP = np.array([1.0, np.nan, 3.0, 4.0])
PANELS = {
    "curves": Curves(
        NAME, Axis("step"), Axis("loss", log=True), (Curve(NAME, X, GAP, task_style(0), GAP / 2, GAP * 2),), level=2.0
    ),
    "heat": Heat(
        NAME, (NAME, "b"), ("c", "d", "e"), np.array([[0.5, np.nan, -1.0], [0.0, 1.0, np.nan]]), Axis("cosine"),
        (-1.0, 1.0), "diverging", Axis("step"), Axis("block"), blank=np.array([[0, 1, 0], [0, 0, 0]], dtype=bool),
    ),
    "bars": Bars(
        NAME, (NAME, "b"), (Bar(NAME, np.array([0.1, np.nan]), method_style(0), np.zeros(2), np.ones(2)),),
        Axis("", share=True), limit=1.0,
    ),
    "points": Points(
        NAME, Axis("ms"), Axis("Δm", share=True), (Point(NAME, 1.0, 0.5, method_style(1), (0.5, 2.0)),),
        (None, 0.0, NAME),
    ),
    "intervals": Intervals(
        NAME, Axis("x", share=True), (Interval(NAME, 0.1, (0.0, 0.2), np.array([0.1]), method_style(2)),)
    ),
}  # fmt: skip


def strings(value):
    """All texts of a figure that could be shown; by ``meta`` the page only finds the series of a legend entry."""
    if isinstance(value, dict):
        return [text for key, part in value.items() if key != "meta" for text in strings(part)]
    if isinstance(value, list | tuple | np.ndarray):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_plotly_takes_names_as_they_are(panel):
    shown = strings(render_plotly.figure(panel).to_dict())
    assert not [text for text in shown if "<b>" in text]
    assert [text for text in shown if "&lt;b&gt;$a$" in text]


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_matplotlib_draws_names_as_they_are(panel):
    with render_matplotlib.settings():
        figure = render_matplotlib.figure(View("", (panel, panel)), NAME)
        figure.savefig(io.BytesIO(), format="png")  # mathematics between dollars would fail or vanish here
    assert figure.axes[0].get_title(loc="left") == NAME.replace("$", r"\$")


def test_undefined_cells_are_hatched_and_blank_ones_are_not():
    heat = PANELS["heat"]
    assert heat.undefined.tolist() == [[1, 2]]
    figure = render_plotly.figure(heat)
    assert [(bar.x.tolist(), bar.marker.pattern.shape) for bar in figure.data if bar.type == "bar"] == [([2], "/")]
    with render_matplotlib.settings():
        axes = render_matplotlib.figure(View("", (heat,))).axes[0]
    assert [patch.get_xy() for patch in axes.patches if patch.get_hatch()] == [(1.5, 0.5)]


def test_a_band_has_a_gap_where_it_is_undefined():
    bands = [trace for trace in render_plotly.figure(PANELS["curves"]).data if trace.fill == "toself"]
    assert [trace.x.tolist() for trace in bands] == [[0, 0], [2, 3, 3, 2]]


def test_both_draw_the_same_line():
    trace = render_plotly.figure(PANELS["curves"]).data[-1]
    with render_matplotlib.settings():
        line = render_matplotlib.figure(View("", (PANELS["curves"],))).axes[0].lines[0]
    np.testing.assert_array_equal(np.asarray(trace.y, dtype=float), line.get_ydata())
    assert trace.line.color == line.get_color()


def test_numbers_of_a_panel():
    table = PANELS["curves"].table()
    assert [row[1] for row in table.rows] == ["1.00 [0.500, 2.00]", "–", "3.00 [1.50, 6.00]", "4.00 [2.00, 8.00]"]


@pytest.mark.parametrize("draw", [render_plotly.figure, lambda panel: render_matplotlib.figure(View("", (panel,)))])
def test_an_unknown_panel_is_an_error(draw):
    class Unknown:
        title, keys = "", ()

    with pytest.raises(TypeError, match="found a panel of type Unknown"):
        draw(Unknown())
