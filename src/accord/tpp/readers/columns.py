"""Columns: tables from files, their columns as numbers, seconds or labels, and the place of a cell that is wrong."""

from __future__ import annotations

import csv
import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accord.tpp.errors import TPPError, nearest
from accord.tpp.events import Floats, Integers
from accord.tpp.readers.found import part_name

if TYPE_CHECKING:
    import polars as pl

PARQUET = (".parquet", ".pq")
TEXT = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_UNREADABLE = (OSError, UnicodeDecodeError, EOFError, zlib.error)
_OFFSET = r"(?:[zZ]|[+-]\d\d:?\d\d)$"
_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def polars() -> Any:
    """The library, or how to get it."""
    try:
        import polars
    except ImportError as error:
        raise TPPError("reading tables needs polars: pip install 'accord[bench]'") from error
    return polars


@dataclass(frozen=True)
class Table:
    """The rows of a file that hold anything.

    Args:
        path: of the file.
        frame: columns of a text file are strings, those of parquet as stored.
        row: (E,) number of each row in the file, blank ones counted, from 0.
    """

    path: Path
    frame: pl.DataFrame
    row: Integers

    def column(self, name: str, role: str) -> pl.Series:
        """The column ``name``; where there is none, the error says what it was wanted for."""
        if name not in self.frame.columns:
            without = {"sequence": ", or None if the file is one sequence", "mark": ", or None if all are alike"}
            raise TPPError(
                f"{self.path.name}: no column {name!r} for the {role}.{nearest(name, self.frame.columns)} "
                f"Name the right one, {role}='...'{without.get(role, '')}."
            )
        return self.frame[name]

    def refuse(self, wrong: NDArray[np.bool_], text: str, cells: pl.Series | None = None) -> None:
        """Raise ``text`` with the place, and the cell, of the first row that is wrong, if any is."""
        if not wrong.any():
            return
        at = int(wrong.argmax())
        cell = "" if cells is None else f" {cells[at]!r}"
        more = f" ({int(wrong.sum())} such rows)" if wrong.sum() > 1 else ""
        raise TPPError(f"{_place(self.path, int(self.row[at]))}:{cell} {text}{more}.")


def files(path: str | Path) -> dict[str, Path]:
    """The files by part: ``all`` for one file; a folder holds ``train.csv``, ``val.csv`` and so on.

    Raises:
        TPPError: if there is nothing to read, or a part comes twice.
    """
    path = Path(path)
    if path.is_file():
        return {"all": path}
    if not path.is_dir():
        raise TPPError(f"{path}: no such file; give a table ({', '.join(TEXT + PARQUET)}) or a folder of them.")
    found: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        part = part_name(file.name.split(".")[0])
        if not file.name.lower().endswith(TEXT + PARQUET) or part not in ("train", "validation", "test"):
            continue
        if part in found:
            raise TPPError(f"{path.name}: both {found[part].name} and {file.name} hold the part {part}; keep one.")
        found[part] = file
    if not found:
        raise TPPError(f"{path.name}: no table called train, validation or test in this folder; give the file itself.")
    return found


def header(path: str | Path) -> list[dict[str, Any]]:
    """For each file the columns with their polars types; nothing where it cannot be read as a table."""
    try:
        found = [file for file in files(path).values() if file.name.lower().endswith(TEXT + PARQUET)]
    except TPPError:
        return []
    if not found:
        return []
    pl = polars()
    try:
        return [
            dict(
                pl.read_parquet_schema(f)
                if _is_parquet(f)
                else pl.read_csv(f, n_rows=0, separator=_separator(f)).schema
            )
            for f in found
        ]
    except (pl.exceptions.PolarsError, *_UNREADABLE):
        return []


def load(path: Path) -> Table:
    """A file as a table.

    Raises:
        TPPError: if it is not readable as one, or holds no rows.
    """
    pl = polars()
    try:
        if _is_parquet(path):
            frame = pl.read_parquet(path)
        else:
            # As text: a guessed type would hide which cell is no number, and round long ones.
            frame = pl.read_csv(path, infer_schema=False, separator=_separator(path))
            frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    except (pl.exceptions.PolarsError, *_UNREADABLE) as error:
        raise TPPError(
            f"{path.name}: not readable as a table: {_ragged(path) or str(error).splitlines()[0]}."
        ) from error
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series().to_numpy() if frame.width else np.empty(0)
    row = np.flatnonzero(~blank.astype(bool))
    if row.size == 0:
        raise TPPError(f"{path.name}: holds no rows; expected one for each event.")
    return Table(path, frame[row] if blank.any() else frame, row)


def times(table: Table, name: str, zone: str, date_format: str | None) -> tuple[Floats, bool, int]:
    """A column of times as float64: numbers as they are, dates as seconds since 1970 in UTC.

    Args:
        table: that holds it.
        name: of the column.
        zone: IANA name, where dates carry none.
        date_format: of text that is not ISO 8601, in ``strftime`` letters; None: ISO.

    Returns:
        the values (E,), whether they were dates, and how many of them name an hour that ``zone`` has twice (the first
        one is taken).

    Raises:
        TPPError: for the first cell that is missing, unreadable or not finite.
    """
    pl = polars()
    cells = table.column(name, "time")
    table.refuse(cells.is_null().to_numpy(), f"no value in the column {name!r}; fill it or leave the row out")
    dates, twice = cells.dtype in (pl.Date, pl.Datetime), 0
    if cells.dtype == pl.String:
        cells = cells.str.strip_chars()
        dates = date_format is not None or cells[:1].cast(pl.Float64, strict=False).is_null().all()
    if dates:
        naive, aware = _dates(cells, date_format)
        zoned, twice = _zoned(naive, zone)
        moment = aware.fill_null(zoned).to_physical()
        found = moment.cast(pl.Float64).to_numpy() / 1e6
        remedy = (
            f"is no date of the form {date_format!r}" if date_format else "is no ISO date such as 2024-03-31 14:05:00"
        )
        if cells.dtype == pl.String:
            remedy += (
                ", or one that does not exist in this time zone; mend it, or give date_format='%d.%m.%Y %H:%M' or so"
            )
    elif cells.dtype.is_numeric() or cells.dtype == pl.String:
        found = cells.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        remedy = f"is no finite number, in the column {name!r}; mend it or leave the row out"
    else:
        raise TPPError(f"{table.path.name}: the column {name!r} holds {cells.dtype}; expected numbers or dates.")
    table.refuse(~np.isfinite(found), remedy, cells)
    return np.ascontiguousarray(found, np.float64), bool(dates), twice


def labels(table: Table, name: str) -> pl.Series:
    """A column of marks as strings; whole numbers lose their ``.0``.

    Raises:
        TPPError: for the first that is missing, and for fractions.
    """
    pl = polars()
    cells = table.column(name, "mark")
    table.refuse(cells.is_null().to_numpy(), f"no mark in the column {name!r}; fill it or leave the row out")
    if not (cells.dtype.is_float() or cells.dtype == pl.String):
        return cells.cast(pl.String)
    if cells.unique().cast(pl.Float64, strict=False).is_null().any():
        return cells  # names, at least some of them
    value = cells.cast(pl.Float64).to_numpy()
    table.refuse(~np.isfinite(value), f"is no mark, in the column {name!r}; leave the row out", cells)
    remedy = "give edges to bin it, mark_bins=[2, 3, 4] or so"
    table.refuse(value != np.floor(value), f"is no mark but a fraction, in the column {name!r}; {remedy}", cells)
    if cells.dtype == pl.String and not cells.str.contains(r"[.eE]").any():
        return cells  # as spelled: 01 is not 1
    return pl.Series(name, value.astype(np.int64)).cast(pl.String)


def ordered(names: pl.Series) -> tuple[str, ...]:
    """The different names: by value where all are whole numbers, else by alphabet."""
    found = names.unique().to_list()
    try:
        return tuple(sorted(found, key=int))
    except ValueError:
        return tuple(sorted(found))


def _dates(cells: pl.Series, date_format: str | None) -> tuple[pl.Series, pl.Series]:
    """Dates without and with a time zone, in microseconds; null where a cell is none of the kind."""
    pl = polars()
    nothing = pl.Series(cells.name, [None], pl.Datetime("us", "UTC")).new_from_index(0, len(cells))
    if cells.dtype == pl.Date:
        return cells.cast(pl.Datetime("us")), nothing
    if cells.dtype == pl.Datetime:
        given = cells.dt.cast_time_unit("us")
        if getattr(cells.dtype, "time_zone", None) is None:
            return given, nothing
        return nothing.dt.replace_time_zone(None), given.dt.convert_time_zone("UTC")
    if date_format is not None:
        if "%z" in date_format or "%:z" in date_format:
            return nothing.dt.replace_time_zone(None), cells.str.to_datetime(date_format, time_unit="us", strict=False)
        return cells.str.to_datetime(date_format, time_unit="us", strict=False), nothing
    cells = cells.str.replace(r"^(\d{4}-\d\d-\d\d)[tT]", "$1 ")
    naive = nothing.dt.replace_time_zone(None)
    for form in _FORMATS:
        if naive.null_count():
            naive = naive.fill_null(cells.str.to_datetime(form, time_unit="us", strict=False))
    if not cells.str.contains(_OFFSET).any():
        return naive, nothing
    aware = nothing
    for form in _FORMATS[:2]:
        aware = aware.fill_null(cells.str.to_datetime(form + "%#z", time_unit="us", time_zone="UTC", strict=False))
    # "2024-03-31" ends like an offset of -31 hours: only what reads as date and time with offset is `aware`.
    return naive.set(aware.is_not_null(), None), aware


def _zoned(naive: pl.Series, zone: str) -> tuple[pl.Series, int]:
    pl = polars()
    try:
        first, second = (
            naive.dt.replace_time_zone(zone, ambiguous=which, non_existent="null") for which in ("earliest", "latest")
        )
    except pl.exceptions.PolarsError as error:
        raise TPPError(f"unknown time zone {zone!r}; give an IANA name such as 'UTC' or 'Europe/Berlin'.") from error
    return first.dt.convert_time_zone("UTC"), int((first != second).sum())


def _is_parquet(path: Path) -> bool:
    return path.name.lower().endswith(PARQUET)


def _open(path: Path) -> Any:
    return (gzip.open if path.name.endswith(".gz") else open)(path, "rt", encoding="utf-8-sig", newline="")


def _separator(path: Path) -> str:
    """The one of ``, ; tab |`` that the header holds most of."""
    with _open(path) as file:
        line = file.readline()
    return max(",;\t|", key=line.count)


def _place(path: Path, row: int) -> str:
    """``file, line n``: found by reading again, since cells may hold line breaks."""
    if _is_parquet(path):
        return f"{path.name}, row {row + 1}"
    with _open(path) as file:
        lines = csv.reader(file, delimiter=_separator(path))
        for _ in range(row + 2):
            begin = lines.line_num + 1
            next(lines, None)
    return f"{path.name}, line {begin}"


def _ragged(path: Path) -> str | None:
    """The first line with more cells than the header, in words."""
    if _is_parquet(path):
        return None
    try:
        with _open(path) as file:
            lines = csv.reader(file, delimiter=_separator(path))
            width = len(next(lines, []))
            for cells in lines:
                if len(cells) > width > 0:
                    return f"line {lines.line_num} has {len(cells)} cells, the header {width}"
    except (csv.Error, *_UNREADABLE):
        pass  # damaged in another way, which the caller has in hand
    return None
