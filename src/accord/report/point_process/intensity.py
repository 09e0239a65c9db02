"""How the intensities of a model move along one sequence."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accord.report.chart import Array, Axis, Chart, Curve, Curves, View
from accord.report.palette import Style, method_style, reference_style
from accord.report.text import times, whole
from accord.tpp.intensity import IntensityCurves

WIDE = 100.0  # an axis that spans a larger ratio is logarithmic
DEPTH = 1e-5  # what lies further below the highest intensity is drawn at the lower edge


def intensity_chart(
    curves: IntensityCurves, names: Sequence[str], unit: str, most: int = 4, stretch: int = 60
) -> Chart:
    """The ground intensity over the ticks of the events, and below it the most frequent marks of the sequence.

    Args:
        curves: of ``accord.tpp.intensity.intensity``; with at least one point.
        names: of the M marks.
        unit: of time, for the axes.
        most: marks shown; the others are part of the ground intensity only.
        stretch: events of a longer sequence that are shown: the last ones, whose history is longest.

    Example:
        >>> from accord.tpp.build import build
        >>> from accord.tpp.events import Events
        >>> from accord.tpp.intensity import intensity
        >>> found = intensity(build("poisson", marks=2), Events.of([[1.0, 2.0]], start=0.0, names=["a", "b"]))
        >>> ground, marks = intensity_chart(found, ["a", "b"], "day").views[0].panels
        >>> [curve.name for curve in ground.curves], [curve.name for curve in marks.curves]
        (['all marks', 'all marks'], ['a', 'a'])
    """
    notes: list[str] = []
    if curves.time.size == 0:
        return _chart(View("", missing="Nothing is known of this sequence but the moment of its event."), notes)
    if (events := len(curves.events)) > stretch:
        notes.append(f"The last {whole(stretch)} of {times(events, 'event')} are shown.")
        curves = _last(curves, stretch)
    count = np.bincount(curves.event_marks, minlength=len(names))  # (M,)
    shown = [int(k) for k in np.argsort(-count, kind="stable")[:most] if count[k] > 0]
    begin = float(curves.time.min())
    curves = dataclasses.replace(curves, time=curves.time - begin, events=curves.events - begin)
    x = Axis(f"time [{unit}]")
    ground = _panel("All marks", x, [("all marks", curves.ground, curves.events, reference_style())], curves.time)
    lines = [
        (names[k], curves.marks[:, k], curves.events[curves.event_marks == k], method_style(i))
        for i, k in enumerate(shown)
    ]
    marks = _panel("Most frequent marks", x, lines, curves.time)
    if left := len(curves.events) - int(count[shown].sum()):
        notes.append(f"{times(left, 'event')} of other marks stand{'s' if left == 1 else ''} in the first panel alone.")
    return _chart(View("", (ground, marks) if shown else (ground,)), notes)


def _chart(view: View, notes: Sequence[str]) -> Chart:
    return Chart(
        "intensity",
        "intensity",
        "How likely the next event is at every moment",
        "Expected events per unit of time, given all events before that moment: for all marks together, and for each "
        "of the most frequent. Time counts from the first moment shown. Ticks at the top are the events that came; an "
        "intensity may jump there and is a smooth curve in between.",
        (view,),
        notes=tuple(notes),
    )


def _last(curves: IntensityCurves, stretch: int) -> IntensityCurves:
    """From the event before the last ``stretch`` ones on."""
    shown = curves.time >= curves.events[-stretch - 1]
    return IntensityCurves(
        curves.time[shown],
        curves.marks[shown],
        curves.compensator[shown],
        curves.events[-stretch:],
        curves.event_marks[-stretch:],
    )


def _panel(title: str, x: Axis, lines: Sequence[tuple[str, Array, Array, Style]], time: Array) -> Curves:
    """Lines, and above them a row of ticks for the events of each: name, intensity (G,), events, style."""
    values = np.concatenate([y for _, y, _, _ in lines])
    values = values[np.isfinite(values) & (values > 0)]
    high = float(values.max(initial=0.0)) or 1.0
    low = max(float(values.min(initial=high)), DEPTH * high)
    log = high / low > WIDE
    drawn = []
    for row, (name, y, at, style) in enumerate(lines):
        drawn.append(Curve(name, time, np.maximum(y, low) if log else y, style))
        drawn.append(Curve(name, *_ticks(at, row, low, high, log), style))  # one name: one entry of the legend
    return Curves(title, x, Axis("intensity", log=log), tuple(drawn), None if log else 0.0)


def _ticks(at: Array, row: int, low: float, high: float, log: bool) -> tuple[Array, Array]:
    """Short vertical strokes as one broken line: (3 E,) twice, each third point undefined."""
    shares = (1.06 + 0.07 * row, 1.11 + 0.07 * row)  # of the height that the lines take
    ends = [low * (high / low) ** share if log else share * high for share in shares]
    strokes: NDArray[np.float64] = np.tile([*ends, np.nan], len(at))
    return np.repeat(at, 3), strokes
