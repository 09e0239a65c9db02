"""Every chart as PDF and PNG, ready for a paper."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accord.report.across import SUITE_PLOTS
from accord.report.across.suite import Suite
from accord.report.chart import Chart, View
from accord.report.plots import PLOTS
from accord.report.render_matplotlib import figure, settings
from accord.report.study import studies

if TYPE_CHECKING:
    from accord.bench.store import Run

KINDS = ("pdf", "png")


def write(runs: Sequence[Run], folder: str | os.PathLike[str]) -> list[Path]:
    """Write one PDF and one PNG per chart and choice of its selector; charts without anything to show are passed over.

    Args:
        runs: from ``accord.bench.store.load_runs``.
        folder: made if missing; files of the same names are replaced.

    Returns:
        The paths, in the order of the page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    known = studies(runs)
    charts: list[tuple[list[str], Chart]] = []
    if len(known) > 1:
        charts += [(["all"], plot(Suite(tuple(known)))) for plot in SUITE_PLOTS]
    charts += [([study.problem] * (len(known) > 1), plot(study)) for study in known for plot in PLOTS]
    written: list[Path] = []
    for place, chart in charts:
        for view in chart.views:
            if view.panels:
                stem = slug([*place, chart.name, *[view.label] * bool(chart.select)])
                title = f"{chart.title} ({view.label})" if chart.select == "Method" else chart.title
                paths: list[Path] = []
                for kind in KINDS:
                    paths.append(_unique(folder / f"{stem}.{kind}", written + paths))
                draw(view, title, paths)
                written += paths
    return written


def draw(view: View, title: str, paths: Sequence[Path]) -> None:
    """Draw a view once and write it to each of the paths, in the format of its ending; whole files or none.

    Args:
        view: with panels.
        title: above it.
        paths: ending in ``.pdf``, ``.png`` or another format of matplotlib.
    """
    with settings():
        drawn = figure(view, title)
        for path in paths:
            beside = path.with_suffix(".tmp")
            drawn.savefig(beside, format=path.suffix.removeprefix("."))
            os.replace(beside, path)
            drawn.set_layout_engine("none")  # the layout is found once and kept


def slug(parts: Sequence[str]) -> str:
    """A name for a file: letters, digits, dots and dashes only.

    Example:
        >>> slug(["pair_cosine", "CAGrad(c=0.5)"])
        'pair_cosine-CAGrad-c-0.5'
    """
    return "-".join(re.sub(r"[^\w.]+", "-", part).strip("-.")[:60] or "x" for part in parts)


def _unique(path: Path, taken: Sequence[Path]) -> Path:
    count, free = 1, path
    while free in taken:
        count += 1
        free = path.with_stem(f"{path.stem}-{count}")
    return free
