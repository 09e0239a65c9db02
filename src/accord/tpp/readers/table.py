"""Event tables: one row for each event, in csv, tsv or parquet."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Floats, Integers
from accord.tpp.readers.columns import PARQUET, Table, files, header, labels, load, ordered, polars
from accord.tpp.readers.found import Found
from accord.tpp.readers.moments import Moments, Spelling, moments


def recognises(path: str | Path) -> bool:
    """Whether it is a table, or a folder of tables, with a column ``time`` of single values."""
    return all("time" in columns and columns["time"] != polars().List for columns in header(path) or [{}])


def read(
    path: str | Path,
    *,
    sequence: str | None = "sequence",
    time: str = "time",
    mark: str | None = "mark",
    start: str | float | None = None,
    end: str | float | None = None,
    zone: str = "UTC",
    date_format: str | None = None,
    decimal: str = ".",
    mark_bins: Sequence[float] | None = None,
    vocabulary: Sequence[str] | None = None,
    sort: bool = False,
) -> Found:
    r"""Read a table with one row for each event.

    Sequences are numbered by first appearance; their rows need not stand together. Rows of one sequence at one time
    keep the order of the file. Parquet files may carry a metadata entry ``dataset`` (``name``, ``num_marks``,
    ``time_unit``, ``window``), which then decides what is not given here.

    Args:
        path: a file (``.csv``, ``.tsv``, either with ``.gz``, ``.parquet``), or a folder of ``train.csv``, ``val.csv``
            and ``test.csv`` or the like. Text has a header; its separator is found from that.
        sequence: column of sequence ids; None: the file is one sequence.
        time: column of numbers, taken as they are, or of dates, which become seconds since 1970 in UTC.
        mark: column of numbers or names; None: all events have the same mark.
        start: column, number or date where the observation of each sequence starts; None: unknown.
        end: the same for its end.
        zone: IANA name of the time zone of dates that carry none.
        date_format: of dates that are not ISO 8601, for example ``%d.%m.%Y %H:%M``.
        decimal: sign of decimal numbers in text, a point or a comma.
        mark_bins: increasing edges; the mark is then the bin that a number falls in, the left edge belonging to it.
        vocabulary: all marks, in order; None: those that occur, by value or by alphabet.
        sort: put the rows of a sequence in order of time; otherwise a step back is refused.

    Raises:
        TPPError: naming file and line, and what to do.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "clicks.csv")
        ...     rows = ["user,at,page", "ada,2024-01-01 10:00,home", "bob,2024-01-01,help", "ada,2024-01-02,help"]
        ...     _ = path.write_text("\n".join(rows))
        ...     events = read(path, sequence="user", time="at", mark="page").parts["all"]
        >>> events, events.marks, events.unit, events.gaps.tolist()
        (Events('clicks', N=2, events=3, M=2), ('help', 'home'), 'second', [0.0, 50400.0, 0.0])
    """
    pl = polars()
    spelling = Spelling(zone, date_format, decimal)
    tables = {part: load(file) for part, file in files(path).items()}
    about = _metadata(next(iter(tables.values())).path)
    marks = {part: _marks(table, mark, mark_bins, spelling) for part, table in tables.items()}
    if vocabulary is None:
        if mark_bins is not None:
            vocabulary = _bins(mark_bins)
        else:
            vocabulary = about.get("marks") or ordered(pl.concat(list(marks.values())))
    window = about.get("window") or (None, None)
    start, end = (window[0] if start is None else start), (window[1] if end is None else end)
    parts, ids, dated = {}, {}, set()
    notes: list[str] = []
    for part, table in tables.items():
        at = moments(table, time, "time", spelling)
        rows = _order(table, at.values, sequence, sort)
        dated.add(at.dates)
        notes += at.notes
        if rows.late:
            notes.append(f"{table.path.name}: {rows.late} of {len(at.values)} rows stood behind a later event; sorted.")
        if rows.ids:
            ids[part] = rows.ids
        parts[part] = Events(
            time=at.values[rows.order],
            mark=_numbers(table, marks[part], tuple(vocabulary))[rows.order],
            offsets=rows.offsets,
            marks=tuple(vocabulary),
            start=_edge(table, start, "start", rows, spelling, at.dates),
            end=_edge(table, end, "end", rows, spelling, at.dates),
            unit="second" if at.dates else about.get("unit", "1"),
            name=about.get("name") or Path(path).name.split(".")[0],
        )
    if len(dated) > 1:
        raise TPPError(
            f"{Path(path).name}: {time!r} holds dates in some files and numbers in others; expected one kind."
        )
    return Found(parts, tuple(notes), ids)


def _metadata(path: Path) -> dict[str, Any]:
    """Name, marks, unit and window from the entry ``dataset`` of a parquet file; nothing if there is none."""
    if not path.name.lower().endswith(PARQUET):
        return {}
    pl = polars()
    try:
        given = json.loads(pl.read_parquet_metadata(path).get("dataset", "{}"))
        found = {"name": given.get("name"), "window": given.get("window")}
        if "num_marks" in given:
            found["marks"] = tuple(str(k) for k in range(int(given["num_marks"])))
        if "time_unit" in given:
            unit = re.sub(r"(\.\d*?)0+\b", r"\1", given["time_unit"].split(" (")[0].split(";")[0])
            found["unit"] = "1" if unit.startswith("not stated") else unit
        return found
    except (AttributeError, TypeError, ValueError) as error:
        raise TPPError(
            f"{path.name}: the metadata entry 'dataset' is not readable ({error}); write the file anew."
        ) from error


def _marks(table: Table, mark: str | None, bins: Sequence[float] | None, spelling: Spelling) -> Any:
    pl = polars()
    if not mark and bins is not None:
        raise TPPError("mark_bins needs the column that it bins; give mark='...' too.")
    if not mark:
        return pl.Series(["event"]).new_from_index(0, table.row.size)
    if bins is None:
        return labels(table, mark, "mark")
    value = moments(table, mark, "mark", spelling).values
    return pl.Series(np.asarray(_bins(bins))[np.searchsorted(np.asarray(bins, np.float64), value, side="right")])


def _bins(edges: Sequence[float]) -> tuple[str, ...]:
    if len(edges) == 0 or not (np.diff(np.asarray(edges, np.float64)) > 0).all():
        raise TPPError(f"mark_bins={list(edges)}; expected increasing edges such as [2, 3, 4].")
    inner = (f"{a:g} to {b:g}" for a, b in itertools.pairwise(edges))
    return (f"below {edges[0]:g}", *inner, f"{edges[-1]:g} and above")


def _numbers(table: Table, names: Any, vocabulary: tuple[str, ...]) -> Integers:
    pl = polars()
    number = names.replace_strict(list(vocabulary), list(range(len(vocabulary))), default=None, return_dtype=pl.Int64)
    table.refuse(number.is_null().to_numpy(), "is a mark that the vocabulary does not hold; add it there", names)
    return number.to_numpy()


@dataclass(frozen=True)
class _Rows:
    """How E rows make N sequences: ``order`` (E,) puts them one behind the other, ``offsets`` (N + 1,) cuts there."""

    order: Integers
    offsets: Integers
    ids: tuple[str, ...]  # of the sequences; empty where there is no column of them
    late: int  # rows that stood behind a later event of their sequence


def _order(table: Table, time: Floats, sequence: str | None, sort: bool) -> _Rows:
    if sequence:
        ids = labels(table, sequence, "sequence")
        different = ids.unique(maintain_order=True)
        code = ids.replace_strict(different, np.arange(len(different))).to_numpy()
        names = tuple(different.to_list())
    else:
        code, names = np.zeros(time.size, np.int64), ()
    order = np.argsort(code, kind="stable")
    back = np.zeros(time.size, bool)
    back[order[1:]] = (np.diff(time[order]) < 0) & (np.diff(code[order]) == 0)
    if back.any():
        if not sort:
            remedy = "sort the file, or read it with sort=True"
            table.refuse(back, f"lies before the event in front of it in its sequence; {remedy}")
        order = np.lexsort((time, code))
    return _Rows(order, np.concatenate([[0], np.cumsum(np.bincount(code))]), names, int(back.sum()))


def _edge(table: Table, given: str | float | None, role: str, rows: _Rows, spelling: Spelling, dates: bool) -> Floats:
    """(N,) one end of the windows, in the kind of the times: ``dates`` or numbers."""
    count = rows.offsets.size - 1
    if given is None:
        return np.full(count, np.nan)
    if isinstance(given, str) and given in table.frame.columns:
        found = moments(table, given, role, spelling)
        value = found.values[rows.order]
        first = value[rows.offsets[:-1]]
        wrong = np.empty(value.size, bool)
        wrong[rows.order] = value != np.repeat(first, np.diff(rows.offsets))
        table.refuse(wrong, f"differs from the {role} that the first row of its sequence has", table.frame[given])
    else:
        found = _single(table, given, role, spelling)
        first = np.full(count, found.values[0])
    if found.dates != dates:
        kinds = ("numbers", "dates")
        raise TPPError(
            f"{table.path.name}: {role}={given!r} means {kinds[found.dates]}, and the times are {kinds[dates]}; "
            "expected one kind."
        )
    return first


def _single(table: Table, given: str | float, role: str, spelling: Spelling) -> Moments:
    """One number or date for all sequences."""
    try:
        value = float(given)
    except ValueError:
        one = Table(table.path, polars().DataFrame({role: [given]}), np.zeros(1, np.int64))
        try:
            return moments(one, role, role, spelling)
        except TPPError as error:
            raise TPPError(
                f"{role}={given!r} is neither a column of {table.path.name} nor a number or date."
            ) from error
    if not np.isfinite(value):
        raise TPPError(f"{role}={given!r}; expected a finite number, or None where it is not known.")
    return Moments(np.array([value]), dates=False)
