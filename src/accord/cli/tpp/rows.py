"""Predictions, anomalies and simulated events as csv, marks by name, times as recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accord.bench import files
from accord.cli.tpp.about import About
from accord.cli.tpp.chosen import Chosen
from accord.tpp.anomaly import Anomalies
from accord.tpp.events import Events, Floats
from accord.tpp.predict import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

Columns = dict[str, "NDArray[Any] | Sequence[Any]"]


def write(path: Path, columns: Columns) -> None:
    """Write columns as csv: there whole or not at all.

    Args:
        path: its folder is made if missing.
        columns: by name, all as long.

    Raises:
        AccordError: if it cannot be written.
    """
    import polars as pl

    files.write(path, pl.DataFrame(columns).write_csv().encode())


def predictions(found: Prediction, chosen: Chosen, quantiles: Sequence[float], after: bool) -> Columns:
    """One row for each predicted event.

    Args:
        found: what was predicted.
        chosen: from which events.
        quantiles: whose times are there.
        after: whether the events lie behind the sequences.
    """
    events, factor, marks = chosen.recorded, chosen.about.factor, chosen.events.marks
    if after:
        sequence, since = found.index, _last(events)[found.index]
        true: Columns = {}
    else:
        sequence, since = events.sequence[found.index], _before(events)[found.index]
        true = {
            "event": found.index - events.offsets[sequence],
            "time": events.time[found.index],
            "mark": _named(events.mark[found.index], marks),
        }
    likely = found.marginal_mark
    rows = np.arange(len(likely))
    return {
        "sequence": chosen.ids[sequence].tolist(),
        **true,
        "since": since,
        "predicted_time": since + found.gap / factor,
        **{f"time_{100 * share:g}%": since + found.quantiles[:, i] / factor for i, share in enumerate(quantiles)},
        "predicted_mark": _named(found.mark, marks),
        "likeliest_mark": _named(likely, marks),
        "likeliest_mark_probability": np.where(likely >= 0, found.marginal[rows, np.maximum(likely, 0)], np.nan),
    }


def simulated(events: Events, about: About) -> Columns:
    """One row for each event, with its window."""
    row = events.sequence
    return {
        "sequence": row,
        "time": about.original(events.time),
        "mark": _named(events.mark, about.marks),
        "start": about.original(events.start)[row],
        "end": about.original(events.end)[row],
    }


def unexpected(found: Anomalies, chosen: Chosen) -> tuple[Columns, Columns]:
    """One row for each event, and one for each sequence, the least expected first."""
    events = chosen.recorded
    order = np.argsort(-(found.time + found.mark), kind="stable")
    index = found.index[order]
    sequence = events.sequence[index]
    by_event: Columns = {
        "sequence": chosen.ids[sequence].tolist(),
        "event": index - events.offsets[sequence],
        "time": events.time[index],
        "mark": _named(events.mark[index], events.marks),
        "surprise_time": found.time[order],
        "surprise_mark": found.mark[order],
        "tail_probability": found.tail[order],
        "late": found.late[order],
    }
    order = np.argsort(-found.surprise, kind="stable")
    by_sequence: Columns = {
        "sequence": chosen.ids[found.sequences[order]].tolist(),
        "surprise_per_event": found.surprise[order],
        "spacing": found.spacing[order],
    }
    return by_event, by_sequence


def head(columns: Columns, count: int) -> list[dict[str, Any]]:
    """The first rows, as Python's own numbers."""
    shown = [np.asarray(values[:count], object).tolist() for values in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*shown, strict=True)]


def _named(marks: NDArray[np.int64], names: Sequence[str]) -> list[str | None]:
    return [names[k] if k >= 0 else None for k in marks.tolist()]


def _before(events: Events) -> Floats:
    """(E,) time of the event before each, or where its observation starts."""
    found = np.empty_like(events.time)
    found[1:] = events.time[:-1]
    some = events.lengths > 0
    found[events.offsets[:-1][some]] = events.origin[some]
    return found


def _last(events: Events) -> Floats:
    """(N,) the last event of each sequence, or the start of one without events."""
    last = events.origin.copy()
    some = events.lengths > 0
    last[some] = events.time[events.offsets[1:][some] - 1]
    return last
