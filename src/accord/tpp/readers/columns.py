"""Columns: tables from files, their columns as labels, and the place of a cell that is wrong."""

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
from accord.tpp.events import Integers
from accord.tpp.readers.found import part_name

if TYPE_CHECKING:
    import polars as pl

PARQUET = (".parquet", ".pq")
TEXT = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
SHOWN = 60  # characters of a cell in an error
_UNREADABLE = (OSError, UnicodeDecodeError, EOFError, zlib.error, csv.Error)


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
        frame: columns of a text file are strings without blanks at their ends, those of parquet as stored.
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
        cell = "" if cells is None else f" {_short(repr(cells[at]))}"
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
        if not is_table(file) or part not in ("train", "validation", "test"):
            continue
        if part in found:
            raise TPPError(f"{path.name}: both {found[part].name} and {file.name} hold the part {part}; keep one.")
        found[part] = file
    if not found:
        raise TPPError(f"{path.name}: no table called train, validation or test in this folder; give the file itself.")
    return found


def is_table(path: Path) -> bool:
    """Whether its name ends as that of a table does."""
    return path.name.lower().endswith(TEXT + PARQUET)


def header(path: str | Path) -> list[dict[str, Any]]:
    """For each file the columns with their polars types; nothing where it cannot be read as a table."""
    try:
        found = [file for file in files(path).values() if is_table(file)]
    except TPPError:
        return []
    if not found:
        return []
    pl = polars()
    try:
        return [
            dict(pl.read_parquet_schema(file)) if _is_parquet(file) else dict.fromkeys(_names(file)[1], pl.String)
            for file in found
        ]
    except (pl.exceptions.PolarsError, *_UNREADABLE):
        return []


def load(path: Path) -> Table:
    """A file as a table.

    Raises:
        TPPError: if it is not readable as one, names a column twice, or holds no rows.
    """
    pl = polars()
    try:
        frame = pl.read_parquet(path) if _is_parquet(path) else _read_text(path)
    except (pl.exceptions.PolarsError, *_UNREADABLE) as error:
        if isinstance(error, UnicodeDecodeError):
            raise TPPError(f"{path.name}: not readable as a table: it is not in UTF-8; save it so.") from error
        why = _ragged(path) or (str(error).splitlines() or [type(error).__name__])[0]
        raise TPPError(f"{path.name}: not readable as a table: {why}.") from error
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series().to_numpy() if frame.width else np.empty(0)
    row = np.flatnonzero(~blank.astype(bool))
    if row.size == 0:
        raise TPPError(f"{path.name}: holds no rows; expected names of columns and below them one row for each event.")
    return Table(path, frame[row] if blank.any() else frame, row)


def labels(table: Table, name: str, role: str) -> pl.Series:
    """A column of names as strings; whole numbers lose their ``.0``.

    Raises:
        TPPError: for the first that is missing, for fractions as marks, and for cells that hold several values.
    """
    pl = polars()
    cells = table.column(name, role)
    table.refuse(cells.is_null().to_numpy(), f"no {role} in the column {name!r}; fill it or leave the row out")
    if not (cells.dtype.is_float() or cells.dtype == pl.String):
        try:
            if cells.dtype.is_nested():
                raise pl.exceptions.InvalidOperationError
            return cells.cast(pl.String)
        except pl.exceptions.PolarsError:
            raise TPPError(
                f"{table.path.name}: the column {name!r} holds {cells.dtype}; expected names or numbers."
            ) from None
    if cells.unique().cast(pl.Float64, strict=False).is_null().any():
        return cells  # names, at least some of them
    value = cells.cast(pl.Float64).to_numpy()
    table.refuse(~np.isfinite(value), f"is no {role}, in the column {name!r}; leave the row out", cells)
    fraction = value != np.floor(value)
    if role == "mark":
        remedy = "give edges to bin it, mark_bins=[2, 3, 4] or so"
        table.refuse(fraction, f"is no mark but a fraction, in the column {name!r}; {remedy}", cells)
    if fraction.any() or (cells.dtype == pl.String and not cells.str.contains(r"[.eE]").any()):
        return cells.cast(pl.String)  # as spelled: 01 is not 1
    return pl.Series(name, value.astype(np.int64)).cast(pl.String)


def ordered(names: pl.Series) -> tuple[str, ...]:
    """The different names: by value where all are whole numbers, else by alphabet."""
    found = names.unique().to_list()
    try:
        return tuple(sorted(found, key=int))
    except ValueError:
        return tuple(sorted(found))


def _is_parquet(path: Path) -> bool:
    return path.name.lower().endswith(PARQUET)


def _open(path: Path) -> Any:
    packed = path.name.lower().endswith(".gz")
    return (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline="")


def _names(path: Path) -> tuple[str, list[str]]:
    """The separator of a text file, the one of ``, ; tab |`` that its first line holds most of, and its columns."""
    with _open(path) as file:
        separator = max(",;\t|", key=file.readline().count)
        file.seek(0)
        return separator, [name.strip() for name in next(csv.reader(file, delimiter=separator), [])]


def _read_text(path: Path) -> pl.DataFrame:
    """All cells as text: a guessed type would hide which one is no number, and round long ones."""
    pl = polars()
    separator, names = _names(path)
    frame = pl.read_csv(path, infer_schema=False, separator=separator)
    for name in names:
        if name and names.count(name) > 1:
            raise TPPError(f"{path.name}: {names.count(name)} columns are called {name!r}; rename all but one.")
    if len(names) == frame.width:  # polars keeps blanks around names
        frame.columns = [name or f"column {i + 1}" for i, name in enumerate(names)]
    frame = frame.with_columns(pl.all().str.strip_chars())
    return frame.with_columns(pl.when(pl.all() != "").then(pl.all()))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _place(path: Path, row: int) -> str:
    """``file, line n``: found by reading again, since cells may hold line breaks."""
    if _is_parquet(path):
        return f"{path.name}, row {row + 1}"
    separator, _ = _names(path)
    with _open(path) as file:
        lines = csv.reader(file, delimiter=separator)
        for _ in range(row + 2):
            begin = lines.line_num + 1
            next(lines, None)
    return f"{path.name}, line {begin}"


def _ragged(path: Path) -> str | None:
    """The first line with more cells than the header, in words."""
    if _is_parquet(path):
        return None
    try:
        separator, names = _names(path)
        with _open(path) as file:
            lines = csv.reader(file, delimiter=separator)
            for cells in lines:
                if len(cells) > len(names) > 0:
                    return f"line {lines.line_num} has {len(cells)} cells, the header {len(names)}"
    except _UNREADABLE:
        pass  # damaged in another way, which the caller has in hand
    return None
