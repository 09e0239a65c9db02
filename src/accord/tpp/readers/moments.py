"""Moments: columns of times, which are numbers or dates, as float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from accord.tpp.errors import TPPError
from accord.tpp.events import Floats
from accord.tpp.readers.columns import Table, polars

if TYPE_CHECKING:
    import polars as pl

EXACT = 2.0**53  # from here on neighbouring float64 numbers lie more than 1 apart
_OFFSET = r"(?:[zZ]|[+-]\d\d:?\d\d)$"
_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_COMMA = r"^[+-]?[\d.]*,[\d.,]*$"  # a number whose comma is its decimal sign, or parts thousands


@dataclass(frozen=True)
class Spelling:
    """How a source spells times.

    Args:
        zone: IANA name of the time zone of dates that carry none.
        date_format: of dates that are not ISO 8601, in ``strftime`` letters; None: ISO.
        decimal: sign of decimal numbers in text, a point or a comma.

    Raises:
        TPPError: for another decimal sign.
    """

    zone: str = "UTC"
    date_format: str | None = None
    decimal: str = "."

    def __post_init__(self) -> None:
        if self.decimal not in (".", ","):
            raise TPPError(f"decimal={self.decimal!r}; expected '.' or ','.")


@dataclass(frozen=True)
class Moments:
    """A column of times.

    Args:
        values: (E,) float64: numbers as they are, dates as seconds since 1970 in UTC.
        dates: whether they were dates.
        notes: what was decided or lost in reading them, a line each.
    """

    values: Floats
    dates: bool
    notes: tuple[str, ...] = ()


def moments(table: Table, name: str, role: str, spelling: Spelling) -> Moments:
    """Read a column of numbers or dates.

    Args:
        table: that holds it.
        name: of the column.
        role: what it is wanted for, in errors.
        spelling: of its cells.

    Raises:
        TPPError: for the first cell that is missing, unreadable or not finite.
    """
    pl = polars()
    cells = table.column(name, role)
    table.refuse(cells.is_null().to_numpy(), f"no value in the column {name!r}; fill it or leave the row out")
    if spelling.date_format is not None and cells.dtype.is_integer():
        cells = cells.cast(pl.String)  # such as 20240331
    text = cells.dtype == pl.String
    if text:
        cells = cells.str.strip_chars()
    if cells.dtype in (pl.Date, pl.Datetime) or (text and _are_dates(cells, spelling)):
        return _from_dates(table, cells, spelling)
    if text or cells.dtype.is_numeric():
        return _from_numbers(table, cells, spelling)
    raise TPPError(f"{table.path.name}: the column {name!r} holds {cells.dtype}; expected numbers or dates.")


def _are_dates(cells: pl.Series, spelling: Spelling) -> bool:
    if spelling.date_format is not None:
        return True
    first = cells[:1]
    return bool(_decimals(first, spelling.decimal).is_null().all() and not first.str.contains(_COMMA).any())


def _decimals(cells: pl.Series, sign: str) -> pl.Series:
    """Text as numbers; null where it is none. With a comma as the sign, a point would part thousands: no number."""
    pl = polars()
    if sign == ",":
        found = cells.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
        return found.set(cells.str.contains(".", literal=True), None)
    return cells.cast(pl.Float64, strict=False)


def _from_numbers(table: Table, cells: pl.Series, spelling: Spelling) -> Moments:
    pl = polars()
    text = cells.dtype == pl.String
    found = _decimals(cells, spelling.decimal) if text else cells.cast(pl.Float64, strict=False)
    values = np.ascontiguousarray(found.fill_null(np.nan).to_numpy(), np.float64)
    remedy = f"is no finite number, in the column {cells.name!r}; mend it or leave the row out"
    wrong = ~np.isfinite(values)
    if text and spelling.decimal == "." and cells.filter(pl.Series(wrong))[:1].str.contains(_COMMA).any():
        remedy = f"is no number, in the column {cells.name!r}; if its comma is the decimal sign, give decimal=','"
    table.refuse(wrong, remedy, cells)
    notes = []
    largest = np.abs(values).max()
    if cells.dtype == pl.Float32:
        apart = np.spacing(np.float32(largest))
        notes.append(f"{table.path.name}: times are stored in float32, {apart:.3g} apart at the largest.")
    elif largest > EXACT:
        apart = np.spacing(largest)
        notes.append(f"{table.path.name}: times so large are rounded to multiples of {apart:g}; subtract an offset.")
    elif _look_like_days(values):
        notes.append(
            f"{table.path.name}: times look like dates such as 20240331 and were read as plain numbers; "
            "give date_format='%Y%m%d' if they are dates."
        )
    return Moments(values, dates=False, notes=tuple(notes))


def _look_like_days(values: Floats) -> bool:
    month, day = values // 100 % 100, values % 100
    known = (values >= 19000101) & (values < 21000101) & (values == np.floor(values))
    return bool((known & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def _from_dates(table: Table, cells: pl.Series, spelling: Spelling) -> Moments:
    pl = polars()
    zone, form = spelling.zone, spelling.date_format
    naive, aware = _parsed(cells, form)
    unread = (naive.is_null() & aware.is_null()).to_numpy()
    if form is None:
        remedy = (
            "is no ISO date such as 2024-03-31 14:05:00; mend it, or give the form, date_format='%d.%m.%Y %H:%M' or so"
        )
    else:
        remedy = f"is no date of the form {form!r}; mend it, or the form"
    table.refuse(unread, remedy, cells)
    zoned, twice = _zoned(naive, zone)
    moment = aware.fill_null(zoned)
    remedy = f"does not exist in the time zone {zone}: clocks were put forward over it; mend it, or give its own zone"
    table.refuse(moment.is_null().to_numpy(), remedy, cells)
    bare = int(naive.is_not_null().sum()) if aware.is_not_null().any() else 0
    finer = int((cells.dt.nanosecond() % 1000 != 0).sum()) if cells.dtype == pl.Datetime("ns") else 0
    counted = (
        (bare, f"times carry no time zone, others do; these were read as {zone}"),
        (twice, f"times fall in an hour that {zone} has twice; the first was taken"),
        (finer, "times were cut to whole microseconds"),
    )
    notes = [f"{table.path.name}: {count} of {len(cells)} {text}." for count, text in counted if count]
    return Moments(moment.to_physical().cast(pl.Float64).to_numpy() / 1e6, dates=True, notes=tuple(notes))


def _parsed(cells: pl.Series, date_format: str | None) -> tuple[pl.Series, pl.Series]:
    """Dates without and with a time zone, in microseconds; null where a cell is none of the kind."""
    pl = polars()
    nothing = pl.Series(cells.name, [None], pl.Datetime("us", "UTC")).new_from_index(0, len(cells))
    naive = nothing.dt.replace_time_zone(None)
    if cells.dtype == pl.Date:
        return cells.cast(pl.Datetime("us")), nothing
    if cells.dtype == pl.Datetime:
        given = cells.dt.cast_time_unit("us")
        if getattr(cells.dtype, "time_zone", None) is None:
            return given, nothing
        return naive, given.dt.convert_time_zone("UTC")
    if date_format is not None:
        found = cells.str.to_datetime(date_format, time_unit="us", strict=False)
        return (naive, found) if "%z" in date_format or "%:z" in date_format else (found, nothing)
    cells = cells.str.replace(r"^(\d{4}-\d\d-\d\d)[tT]", "$1 ")
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
    """Local times in UTC, and how many of them come twice."""
    pl = polars()
    try:
        first, second = (
            naive.dt.replace_time_zone(zone, ambiguous=which, non_existent="null") for which in ("earliest", "latest")
        )
    except pl.exceptions.PolarsError as error:
        raise TPPError(f"unknown time zone {zone!r}; give an IANA name such as 'UTC' or 'Europe/Berlin'.") from error
    return first.dt.convert_time_zone("UTC"), int((first != second).sum())
