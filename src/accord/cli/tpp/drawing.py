"""Figures on the disk, and on the screen where they are and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accord.cli import show

if TYPE_CHECKING:
    from accord.report.chart import Chart


def draw(charts: Sequence[Chart], out: Path) -> None:
    """Write figures as PNG and PDF.

    Args:
        charts: what they show.
        out: folder, made if missing.

    Raises:
        AccordError: if it cannot be written.
    """
    from accord.report import point_process  # Matplotlib takes its time

    point_process.write(charts, out)
    for chart in charts:
        if chart.missing:
            print(f"\n{chart.title}: no figure. {chart.missing}")
            continue
        print(f"\n{out / chart.name}.png and .pdf: {chart.title}")
        print(show.wrapped(" ".join([chart.reading, *chart.notes])))
