"""Charts as PDF and PNG."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from accord.errors import AccordError
from accord.report.chart import Chart
from accord.report.figures import KINDS, slug
from accord.report.render_matplotlib import figure, settings


def write(charts: Sequence[Chart], folder: str | os.PathLike[str]) -> list[Path]:
    """Write one PDF and one PNG for each chart and choice of its selector.

    Args:
        charts: with different names.
        folder: made if missing; files of the same names are replaced.

    Returns:
        The paths.

    Raises:
        AccordError: if the folder cannot be written.
    """
    folder, written = Path(folder), []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for chart in charts:
            for view in chart.views:
                if not view.panels:
                    continue
                stem = slug([chart.name, *[view.label] * bool(chart.select)])
                with settings(), warnings.catch_warnings():
                    # Names of marks may hold letters that the font lacks; it draws boxes, and nobody can help it.
                    warnings.filterwarnings("ignore", "Glyph .* missing from")
                    drawn = figure(view, chart.title)
                    for kind in KINDS:
                        path = folder / f"{stem}.{kind}"
                        drawn.savefig(path.with_suffix(".tmp"), format=kind)
                        os.replace(path.with_suffix(".tmp"), path)
                        drawn.set_layout_engine("none")  # the layout is found once and kept
                        written.append(path)
    except OSError as error:
        raise AccordError(f"{folder} cannot be written ({error.strerror or error}); choose another folder.") from None
    return written
