"""The report as one HTML file that needs nothing else: no network, no second file, no server."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from accord.report import palette, tables
from accord.report.across import SUITE_PLOTS
from accord.report.across.suite import Suite
from accord.report.across.words import standings, suite_verdict
from accord.report.chart import Chart, Heat, Panel, View
from accord.report.plots import PLOTS
from accord.report.render_plotly import SCALES, figure
from accord.report.study import Study, studies
from accord.report.table import Table
from accord.report.text import share, times, trimmed
from accord.report.verdict import verdict

if TYPE_CHECKING:
    from accord.bench.store import Run

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """A part of the page: which charts (by ``Chart.section``) and tables, and whether a method is chosen there."""

    name: str
    title: str
    short: str
    intro: str = ""
    selector: bool = False


SECTIONS = (
    Section("results", "Results", "Results"),
    Section("tradeoff", "Trade-off", "Trade-off", "What a method is worth beside what it costs."),
    Section("harm", "Who pays", "Who pays", "A negative cosine is only a sign; harm is a loss that a step raises."),
    Section("conflict", "Conflict over time", "Conflict", "All methods side by side."),
    Section("losses", "Losses", "Losses"),
    Section(
        "method",
        "Inside a method",
        "Inside a method",
        "Pairs, layers, dominance and weights of one method at a time; choose it in the bar above.",
        selector=True,
    ),
    Section("details", "Run details", "Details", "With what, on what, and with which incidents the runs were made."),
)


ACROSS = Section("across", "Over all problems", "All", "Everything here compares methods over several problems.")


def write(runs: Sequence[Run], path: str | os.PathLike[str]) -> Path:
    """Write the report of runs as one self-contained HTML file; either the whole file is there afterwards or nothing.

    Args:
        runs: from ``accord.bench.store.load_runs``.
        path: of the file; its folder is made if missing.

    Returns:
        The path.

    Raises:
        AccordError: if there is no run, or two runs have one configuration and one seed.
    """
    path = Path(path)
    text = render(studies(runs))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
    return path


def render(shown: Iterable[Study]) -> str:
    """The page as text."""
    data: dict[str, Any] = {}
    known = tuple(shown)
    pages = [_suite(Suite(known), data)] if len(known) > 1 else []
    pages += [_study(study, f"p{i}", data) for i, study in enumerate(known)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html.jinja").render(
        studies=pages,
        version=version("accord"),
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        js=Markup((HERE / "page.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
        data=Markup(embedded({"charts": data, "dark": palette.dark()})),
    )


def embedded(value: Any) -> str:
    r"""JSON that may stand inside a script element: nothing in it can end the element or begin a comment.

    Example:
        >>> print(embedded({"task": "</script>"}))
        {"task":"\u003c/script\u003e"}
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _suite(suite: Suite, data: dict[str, Any]) -> dict[str, Any]:
    """What the template writes of all problems together."""
    charts = [plot(suite) for plot in SUITE_PLOTS]
    data |= {f"all-{chart.name}": _chart(chart) for chart in charts if not chart.missing}
    own = {"id": "all-across", "charts": [_frame(chart, "all") for chart in charts], "tables": [standings(suite)]}
    return {
        "id": "all",
        "problem": "All problems",
        "summary": f"{times(len(suite.studies), 'problem')} · {times(len(suite.styles), 'method')}",
        "verdict": suite_verdict(suite),
        "sections": [asdict(ACROSS) | own],
        "methods": list(suite.styles),
    }


def _study(study: Study, name: str, data: dict[str, Any]) -> dict[str, Any]:
    charts = [plot(study) for plot in PLOTS]
    sections = []
    for section in SECTIONS:
        own = [chart for chart in charts if chart.section == section.name and chart.views]
        for chart in own:
            if not chart.missing:
                data[f"{name}-{chart.name}"] = _chart(chart)
        own_tables = {"results": [tables.results], "details": [tables.settings, tables.runs]}.get(section.name, [])
        if own or own_tables:
            sections.append(
                asdict(section)
                | {
                    "id": f"{name}-{section.name}",
                    "charts": [_frame(chart, name) for chart in own],
                    "tables": [table(study) for table in own_tables],
                    "selector": section.selector and len(study.arms) > 1,
                }
            )
    return {
        "id": name,
        "problem": study.problem,
        "summary": _summary(study),
        "verdict": verdict(study),
        "sections": sections,
        "methods": [arm.label for arm in study.arms],
    }


def _summary(study: Study) -> str:
    seeds = {trial.seed for arm in study.arms for trial in arm.trials}
    probes = sum(len(record) for arm in study.arms for record in arm.records)
    return " · ".join(
        [
            times(len(study.tasks), "task"),
            times(len(study.arms), "method"),
            times(len(seeds), "seed"),
            f"{times(probes, 'probed step')}",
        ]
    )


def _frame(chart: Chart, study: str) -> dict[str, Any]:
    """What the template writes of a chart; the rest is drawn from the embedded data when it comes into view."""
    return {
        "id": f"{study}-{chart.name}",
        "title": chart.title,
        "reading": chart.reading,
        "notes": chart.notes,
        "wide": chart.wide,
        "count": max(len(view.panels) for view in chart.views),
        "missing": chart.missing,
        "select": chart.select,
        "labels": [view.label for view in chart.views],
    }


def _chart(chart: Chart) -> dict[str, Any]:
    return {"title": chart.title, "views": [_view(view) for view in chart.views]}


def _view(view: View) -> dict[str, Any]:
    kind = view.panels[0].kind if view.panels else ""
    keys = [
        {"name": name, "kind": kind, "colour": style.colour, "dash": style.dash, "marker": style.marker}
        for name, style in view.keys
    ]
    return {
        "label": view.label,
        "missing": view.missing,
        "keys": keys if len(keys) > 1 else [],
        "panels": [_panel(panel) for panel in view.panels],
    }


def _panel(panel: Panel) -> dict[str, Any]:
    # through Plotly's own JSON: arrays are packed and undefined numbers become null
    return {
        "title": panel.title,
        "square": isinstance(panel, Heat) and panel.square,
        "scale": _scale(panel),
        "figure": lighter(json.loads(figure(panel).to_json())),
        "table": _table(panel.table()),
    }


def lighter(value: Any) -> Any:
    """Plotly's packed arrays in single precision, which is finer than any screen and half the size.

    Example:
        >>> packed = base64.b64encode(np.arange(2.0).tobytes()).decode()
        >>> lighter([{"dtype": "f8", "bdata": packed}])
        [{'dtype': 'f4', 'bdata': 'AAAAAAAAgD8='}]
    """
    if isinstance(value, dict):
        if value.get("dtype") == "f8":
            numbers = np.frombuffer(base64.b64decode(value["bdata"]), dtype="<f8").astype("<f4")
            return value | {"dtype": "f4", "bdata": base64.b64encode(numbers.tobytes()).decode()}
        return {key: lighter(part) for key, part in value.items()}
    return [lighter(part) for part in value] if isinstance(value, list) else value


def _scale(panel: Panel) -> dict[str, Any] | None:
    if not isinstance(panel, Heat):
        return None
    return {
        "label": panel.z.label,
        "ends": [share(end) if panel.z.share else trimmed(end) for end in panel.limits],
        "colours": [light for light, _ in SCALES[panel.scale]],
        "undefined": len(panel.undefined) > 0,
    }


def _table(table: Table) -> dict[str, Any]:
    return {"title": table.title, "columns": [column.header for column in table.columns], "rows": table.rows}
