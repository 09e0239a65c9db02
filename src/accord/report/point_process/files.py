"""Charts as PDF and PNG."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from accord.errors import AccordError
from accord.report.chart import Chart
from accord.report.figures import KINDS, draw, slug


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
    folder = Path(folder)
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for chart in charts:
            for view in chart.views:
                if not view.panels:
                    continue
                stem = slug([chart.name, *[view.label] * bool(chart.select)])
                paths = [folder / f"{stem}.{kind}" for kind in KINDS]
                with warnings.catch_warnings():
                    # Names of marks may hold letters that the font lacks; it draws boxes, and nobody can help it.
                    warnings.filterwarnings("ignore", "Glyph .* missing from")
                    draw(view, chart.title, paths)
                written += paths
    except OSError as error:
        raise AccordError(f"{folder} cannot be written ({error.strerror or error}); choose another folder.") from None
    return written
