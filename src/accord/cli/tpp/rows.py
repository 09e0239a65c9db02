"""Predictions, anomalies and simulated events as csv, marks by name, times as recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accord.cli.tpp.about import About
from accord.errors import AccordError
from accord.tpp.anomaly import Anomalies
from accord.tpp.events import Events
from accord.tpp.predict import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

Columns = dict[str, "NDArray[Any] | Sequence[Any]"]


def write(path: Path, columns: Columns) -> None:
    """Write columns as csv: there whole or not at all.

    Args:
        path: its folder is made if missing.
        columns: by name.

    Raises:
        AccordError: if it cannot be written.
    """
    import polars as pl

    beside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(columns).write_csv(beside)
        beside.replace(path)
    except OSError as error:
        raise AccordError(f"{path} cannot be written ({error.strerror or error}); choose another file.") from None


def predictions(found: Prediction, events: Events, about: About, quantiles: Sequence[float], after: bool) -> Columns:
    """One row for each predicted event.

    Args:
        found: what was predicted.
        events: from which, in the model's unit.
        about: the way back to recorded units.
        quantiles: whose times are there.
        after: whether the events lie behind the sequences.
    """
    if after:
        sequence, since = found.index, _last(events)[found.index]
        true: Columns = {}
    else:
        sequence = events.sequence[found.index]
        since = events.time[found.index] - events.gaps[found.index]
        true = {
            "event": found.index - events.offsets[sequence],
            "time": about.original(events.time[found.index]),
            "mark": _named(events.mark[found.index], about.marks),
        }
    likely = found.marginal_mark
    rows = np.arange(len(likely))
    chance = np.where(likely >= 0, found.marginal[rows, np.maximum(likely, 0)], np.nan)
    return {
        "sequence": sequence,
        **true,
        "since": about.original(since),
        "predicted_time": about.original(since + found.gap),
        **{
            f"time_{100 * share:g}%": about.original(since + found.quantiles[:, i])
            for i, share in enumerate(quantiles)
        },
        "predicted_mark": _named(found.mark, about.marks),
        "likeliest_mark": _named(likely, about.marks),
        "likeliest_mark_probability": chance,
    }  # fmt: skip


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


def unexpected(found: Anomalies, events: Events, about: About) -> tuple[Columns, Columns]:
    """One row for each event, and one for each sequence, the least expected first."""
    order = np.argsort(-(found.time + found.mark), kind="stable")
    index = found.index[order]
    sequence = events.sequence[index]
    by_event: Columns = {
        "sequence": sequence,
        "event": index - events.offsets[sequence],
        "time": about.original(events.time[index]),
        "mark": _named(events.mark[index], about.marks),
        "surprise_time": found.time[order],
        "surprise_mark": found.mark[order],
        "tail_probability": found.tail[order],
        "late": found.late[order],
    }
    order = np.argsort(-found.surprise, kind="stable")
    by_sequence: Columns = {
        "sequence": found.sequences[order],
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


def _last(events: Events) -> NDArray[np.float64]:
    """(N,) the last event of each sequence, or the start of one without events."""
    last = events.origin.copy()
    some = events.lengths > 0
    last[some] = events.time[events.offsets[1:][some] - 1]
    return last
