"""HoTPP parquet: one row for each sequence, with lists of times and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.readers.columns import Table, files, header, labels, load, ordered, polars
from accord.tpp.readers.found import Found

TIMES, LABELS = "timestamps", "labels"


def recognises(path: str | Path) -> bool:
    """Whether it has the two list columns ``timestamps`` and ``labels``."""
    return all(columns.get(name) == polars().List for columns in header(path) or [{}] for name in (TIMES, LABELS))


def read(path: str | Path) -> Found:
    """Read sequences from rows with the list columns ``timestamps`` and ``labels``; other columns are not used.

    Windows are unknown. Times keep the precision of the file.

    Args:
        path: a parquet file, or a folder with ``train.parquet``, ``val.parquet``, ``test.parquet``.

    Raises:
        TPPError: naming file and row, and what to do.

    Source:
        I. Karpukhin, F. Shipilov, A. Savchenko, "HoTPP benchmark", arXiv 2406.14341.
    """
    pl = polars()
    flat, warnings = {}, []
    for part, file in files(path).items():
        table = load(file)
        lists = [table.column(name, role) for name, role in ((TIMES, "time"), (LABELS, "mark"))]
        for cells in lists:
            if cells.dtype != pl.List:
                raise TPPError(f"{file.name}: the column {cells.name!r} holds {cells.dtype}; expected lists.")
            table.refuse(cells.is_null().to_numpy(), f"no list in the column {cells.name!r}; leave the row out")
        lengths, others = (cells.list.len().to_numpy().astype(np.int64) for cells in lists)
        table.refuse(lengths != others, "has lists of different lengths; expected one label for each time")
        if (empty := int((lengths == 0).sum())) > 0:
            warnings.append(f"{file.name}: {empty} sequences without events left out.")
        some = lengths > 0
        rows = pl.DataFrame({cells.name: cells.filter(pl.Series(some)).explode() for cells in lists})
        if rows[TIMES].dtype == pl.Float32 and rows[TIMES].is_finite().any():
            apart = np.spacing(rows[TIMES].abs().to_numpy().max())
            warnings.append(f"{file.name}: times are stored in float32, {apart:.3g} apart at the largest.")
        flat[part] = Table(file, rows, np.repeat(table.row, lengths)), lengths[some]
    names = {part: labels(table, LABELS) for part, (table, _) in flat.items()}
    vocabulary = ordered(pl.concat(list(names.values())))
    parts = {}
    for part, (table, lengths) in flat.items():
        time = table.frame[TIMES].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        table.refuse(~np.isfinite(time), "holds a time that is no finite number; mend it", table.frame[TIMES])
        back = np.diff(time, prepend=time[:1]) < 0
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        back[offsets[:-1]] = False
        table.refuse(back, "is a time before the one in front of it; sort the lists", table.frame[TIMES])
        number = names[part].replace_strict(list(vocabulary), list(range(len(vocabulary))), return_dtype=pl.Int64)
        parts[part] = Events(time, number.to_numpy(), offsets, vocabulary, name=Path(path).name.split(".")[0])
    return Found(parts, tuple(warnings))
