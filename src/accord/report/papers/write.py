"""All tables of some runs as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accord.errors import AccordError, nearest
from accord.report.across.suite import Suite
from accord.report.figures import slug
from accord.report.papers.formats import FORMATS
from accord.report.papers.sheet import of_study, of_suite
from accord.report.study import studies

if TYPE_CHECKING:
    from accord.bench.store import Run


def write(runs: Sequence[Run], folder: str | os.PathLike[str], formats: Sequence[str] = tuple(FORMATS)) -> list[Path]:
    """Write one table per problem, and one over all problems if there are several, in each format.

    Args:
        runs: from ``accord.bench.store.load_runs``.
        folder: made if missing; files of the same names are replaced, each whole or not at all.
        formats: of ``md``, ``latex``, ``html`` and ``csv``.

    Returns:
        The paths.

    Raises:
        AccordError: for an unknown format, no runs, or the same run twice.
    """
    for name in formats:
        if name not in FORMATS:
            raise AccordError(f"format {name!r} is unknown.{nearest(name, FORMATS)}")
    known = studies(runs)
    sheets = [of_study(study) for study in known]
    if len(known) > 1:
        sheets.insert(0, of_suite(Suite(tuple(known))))
    folder, written = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    stems: list[str] = []
    for sheet in sheets:
        stem = slug([sheet.name])
        stems.append(stem)
        stem += f"-{stems.count(stem)}" if stems.count(stem) > 1 else ""
        for name in dict.fromkeys(formats):
            ending, render = FORMATS[name]
            path = folder / f"{stem}{ending}"
            beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            beside.write_text(render(sheet), encoding="utf-8")
            os.replace(beside, path)
            written.append(path)
    return written
