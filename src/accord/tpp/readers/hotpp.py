"""HoTPP parquet: one row for each sequence, with lists of times and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Integers
from accord.tpp.readers.columns import Table, files, header, labels, load, ordered, polars
from accord.tpp.readers.found import Found
from accord.tpp.readers.moments import Spelling, moments

ID, TIMES, LABELS = "id", "timestamps", "labels"


def recognises(path: str | Path) -> bool:
    """Whether it has the two list columns ``timestamps`` and ``labels``."""
    return all(columns.get(name) == polars().List for columns in header(path) or [{}] for name in (TIMES, LABELS))


def read(path: str | Path) -> Found:
    """Read sequences from rows with the list columns ``timestamps`` and ``labels``, perhaps with an ``id``.

    Windows are unknown. Times keep the precision of the file. Other columns are not used.

    Args:
        path: a parquet file, or a folder with ``train.parquet``, ``val.parquet``, ``test.parquet``.

    Raises:
        TPPError: naming file and row, and what to do.

    Source:
        I. Karpukhin, F. Shipilov, A. Savchenko, "HoTPP benchmark", arXiv 2406.14341.
    """
    pl = polars()
    tables = {part: load(file) for part, file in files(path).items()}
    flat = {part: _unfolded(table) for part, table in tables.items()}
    names = {part: labels(rows, LABELS, "mark") for part, (rows, _) in flat.items()}
    vocabulary = ordered(pl.concat(list(names.values())))
    numbers = list(range(len(vocabulary)))
    parts = {}
    notes: list[str] = []
    for part, (rows, offsets) in flat.items():
        at = moments(rows, TIMES, "time", Spelling())
        back = np.diff(at.values, prepend=at.values[:1]) < 0
        back[offsets[:-1]] = False
        rows.refuse(back, "is a time before the one in front of it; sort the lists", rows.frame[TIMES])
        mark = names[part].replace_strict(list(vocabulary), numbers, return_dtype=pl.Int64).to_numpy()
        unit = "second" if at.dates else "1"
        parts[part] = Events(at.values, mark, offsets, vocabulary, unit=unit, name=Path(path).name.split(".")[0])
        notes += at.notes
    ids = {
        part: tuple(labels(table, ID, "sequence").to_list())
        for part, table in tables.items()
        if ID in table.frame.columns
    }
    return Found(parts, tuple(notes), ids)


def _unfolded(table: Table) -> tuple[Table, Integers]:
    """A row for each event, and the offsets of the sequences."""
    pl = polars()
    lists = [table.column(name, role) for name, role in ((TIMES, "time"), (LABELS, "mark"))]
    for cells in lists:
        if cells.dtype != pl.List:
            raise TPPError(f"{table.path.name}: the column {cells.name!r} holds {cells.dtype}; expected lists.")
        table.refuse(cells.is_null().to_numpy(), f"no list in the column {cells.name!r}; leave the row out")
    lengths, others = (cells.list.len().to_numpy().astype(np.int64) for cells in lists)
    table.refuse(lengths != others, "has lists of different lengths; expected one label for each time")
    table.refuse(lengths == 0, "has no events, and its window is not known; leave the row out")
    rows = pl.DataFrame({cells.name: cells.explode() for cells in lists})
    return Table(table.path, rows, np.repeat(table.row, lengths)), np.concatenate([[0], np.cumsum(lengths)])
