"""The page of a study, and the summary of several: HTML files that need nothing else, and the same as JSON."""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib import rc_context

import accord.report
from accord.bench import files
from accord.errors import AccordError
from accord.report.chart import View
from accord.report.render_matplotlib import figure, grid_of, settings
from accord.studies import running
from accord.studies.findings import Finding, findings
from accord.studies.running import Plan
from accord.studies.study import Results

HERE = Path(__file__).parent
PAGE, VERDICT = "index.html", "verdict.json"
CLASSES = {"supported": "yes", "not supported": "no", "inconclusive": "open"}


def write(plan: Plan) -> tuple[Finding, ...]:
    """Judge a study that is complete and write its page, its pictures and its verdicts beside its rows.

    Args:
        plan: whose pieces are all there.

    Returns:
        What was found.

    Raises:
        AccordError: if a piece is missing or damaged, was measured by code that no longer fits, or the folder cannot be
            written.
    """
    results, about = running.results(plan)
    try:
        return _write(plan, results, about)
    except (LookupError, TypeError, ValueError) as error:
        if about["sources"] == [running.source(plan.study)]:
            raise  # a mistake in the study, not in the rows
        raise AccordError(
            f"{plan.folder / running.ROWS} was measured by other code than {plan.study.name} has now, and lacks what "
            f"that asks for ({' '.join(str(error).split())[:200]}). Remove that folder and run the study again."
        ) from None


def _write(plan: Plan, results: Results, about: Mapping[str, Any]) -> tuple[Finding, ...]:
    study = plan.study
    found = findings(study, results, plan.series, plan.smoke)
    charts = []
    for number, view in enumerate(study.charts(results), 1):
        picture = drawn(view) if view.panels else b""
        if picture:  # by itself too, for papers
            files.write(plan.folder / f"figure-{number}.svg", picture)
        tables = [panel.table() for panel in view.panels]
        address = f"data:image/svg+xml;base64,{base64.b64encode(picture).decode()}" if picture else ""
        charts.append(
            {"label": view.label, "missing": view.missing, "picture": address, "tables": tables}
            | {"columns": grid_of(view)[1]}  # how wide it has to be for its text to be read
        )
    ledger = _ledger(plan, about)
    text = _template().get_template("study.html.jinja").render(
        study=study, findings=found, charts=charts, tables=study.tables(results), ledger=ledger, css=_css(),
        classes=CLASSES, version=version("accord"), smoke=plan.smoke, broken=study.sabotages.get(plan.broken, ""),
    )  # fmt: skip
    files.write_json(plan.folder / VERDICT, {**_verdict(plan, found), "ledger": ledger})
    files.write(plan.folder / PAGE, text.encode())
    return found


def summarise(plans: Sequence[Plan], found: Mapping[str, Sequence[Finding]], root: Path) -> Path:
    """Write the page that lists all verdicts, with links to the pages of the studies.

    Args:
        plans: the studies of the page.
        found: their findings by the name of the study.
        root: folder of all studies, where the page is written.

    Returns:
        Its path.
    """
    rows = [
        {
            "study": plan.study, "link": f"{plan.folder.name}/{PAGE}", "findings": found[plan.study.name],
            "sets": _counts([plan]),
        }
        for plan in plans
    ]  # fmt: skip
    words: list[str] = [finding.word for plan in plans for finding in found[plan.study.name]]
    text = _template().get_template("summary.html.jinja").render(
        rows=rows, css=_css(), classes=CLASSES, version=version("accord"),
        counts={word: words.count(word) for word in CLASSES}, plan=plans[0], sets=_counts(plans),
    )  # fmt: skip
    files.write_json(root / "summary.json", [_verdict(plan, found[plan.study.name]) for plan in plans])
    files.write(root / PAGE, text.encode())
    return root / PAGE


def drawn(view: View) -> bytes:
    """A picture as the content of an SVG file; the same view gives the same bytes."""
    place = io.BytesIO()
    with settings(), rc_context({"svg.hashsalt": "accord"}):
        figure(view).savefig(place, format="svg", metadata={"Date": None})
    return place.getvalue()


def command(plan: Plan) -> str:
    """What makes this page again.

    Example:
        >>> from accord.studies import registry
        >>> command(Plan(registry.find("E03"), Path("studies"), sets=2, first=10))
        'accord study run E03 --seeds 5 --sets 2 --first-seed 10'
    """
    parts = ["accord", "study", "run", plan.study.name, "--seeds", str(plan.seeds), "--sets", str(plan.sets)]
    parts += ["--first-seed", str(plan.first)] if plan.first else []
    parts += ["--smoke"] if plan.smoke else []
    parts += ["--broken", plan.broken] if plan.broken else []
    return shlex.join(parts)


def _counts(plans: Sequence[Plan]) -> str:
    """How often the claims were judged, in words."""
    fewest, most = min(plan.sets for plan in plans), max(plan.sets for plan in plans)
    if most == 1:
        return "one set"
    return f"{most} disjoint sets" if fewest == most else f"{fewest} to {most} disjoint sets"


def _ledger(plan: Plan, about: Mapping[str, Any]) -> dict[str, str]:
    """What one has to know to do it again, and to trust it."""
    sources = [text[:12] for text in about["sources"]]
    now = running.source(plan.study)
    changed = "" if about["sources"] == [now] else f"; it has changed since ({now[:12]}), so measure again to be sure"
    environments = "; or ".join(
        ", ".join(f"{name} {value}" for name, value in environment.items()) for environment in about["environments"]
    )
    return {
        "Command": command(plan),
        "Seeds": "; ".join(f"{several[0]} to {several[-1]}" for several in plan.series),
        "Cells": ", ".join(plan.study.cells),
        "CPU time": f"{timedelta(seconds=round(about['seconds']))} (hours:minutes:seconds) on one thread per piece",
        "Measured with": environments,
        "Code that measured": f"SHA-256 {', '.join(sources)}{changed}",
    }


def _verdict(plan: Plan, found: Sequence[Finding]) -> dict[str, Any]:
    claims = [
        {
            "claim": finding.claim.name, "statement": finding.claim.statement, "rule": finding.claim.rule,
            "verdict": finding.word, "why": finding.why, "all seeds": finding.claim.test.found,
            "sets": [
                {"seeds": list(seeds), "verdict": word, "found": text}
                for seeds, word, text in zip(finding.sets, finding.words, finding.found, strict=True)
            ],
        }
        for finding in found
    ]  # fmt: skip
    return {"study": plan.study.name, "title": plan.study.title, "broken": plan.broken, "claims": claims}


def _template() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["estimate"] = _estimate
    return environment


def _estimate(cell: str) -> str:
    """A mean with its interval in two lines, so that more columns fit; other cells as they are."""
    mean, _, rest = cell.partition(" [")
    if not rest.endswith("]") or " " in mean:
        return cell
    return Markup('{} <span class="range">[{}</span>').format(mean, rest)


def _css() -> Markup:
    """The look of the report, and what only these pages have."""
    report = Path(accord.report.__file__).parent
    return Markup((report / "page.css").read_text(encoding="utf-8") + (HERE / "page.css").read_text(encoding="utf-8"))
