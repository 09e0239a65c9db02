"""Columns of times in odd spellings, and what is said where reading them decided or lost something."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.readers import read, recognise, table
from accord.tpp.readers.found import Found

pl = pytest.importorskip("polars", reason="tables need polars")


def found(folder: Path, times: list[str], separator: str = ",", **options: object) -> Found:
    """What is read from one sequence with these times."""
    path = folder / "log.csv"
    path.write_text("\n".join(separator.join(row) for row in [("sequence", "time"), *(("x", t) for t in times)]))
    return table.read(path, mark=None, **options)  # type: ignore[arg-type]


def typed(folder: Path, times: object) -> Found:
    """The same from parquet."""
    path = folder / "log.parquet"
    column = pl.Series("time", times)
    pl.DataFrame({"sequence": ["x"] * len(column), "time": column}).write_parquet(path)
    return table.read(path, mark=None)


def test_a_decimal_comma_is_read_where_it_is_said_and_refused_elsewhere(tmp_path: Path) -> None:
    cells = ["-1,5", "2", "3,25", "1e1"]
    events = found(tmp_path, cells, ";", decimal=",").parts["all"]
    assert events.time.tolist() == [-1.5, 2.0, 3.25, 10.0]
    assert found(tmp_path, cells, ";", decimal=",", start="-2").parts["all"].start.tolist() == [-2.0]
    for wrong in (cells, ["1", "1,5"]):
        with pytest.raises(TPPError, match="is no number, in the column 'time'; if its comma is .* give decimal=','"):
            found(tmp_path, wrong, ";")
    with pytest.raises(TPPError, match="log.csv, line 3: '1.000,5' is no finite number"):
        found(tmp_path, ["1,5", "1.000,5"], ";", decimal=",")
    with pytest.raises(TPPError, match="decimal=';'; expected '.' or ','"):
        found(tmp_path, cells, ";", decimal=";")


def test_numbers_of_every_kind(tmp_path: Path) -> None:
    for times in (
        [Decimal("0.1250"), Decimal("7.5000")],
        pl.Series([0, 8], dtype=pl.Int128),
        pl.Series([0, 8], dtype=pl.UInt8),
        [" 0.5 ", "1e2"],
    ):
        expected = [float(t) for t in times]
        assert typed(tmp_path, times).parts["all"].time.tolist() == expected
        assert typed(tmp_path, times).warnings == ()


def test_precision_that_is_lost_is_told(tmp_path: Path) -> None:
    assert typed(tmp_path, pl.Series([1.5e9, 1.5e9 + 256], dtype=pl.Float32)).warnings == (
        "log.parquet: times are stored in float32, 128 apart at the largest.",
    )
    assert typed(tmp_path, [2**53 - 1, 2**53]).warnings == ()
    assert found(tmp_path, [str(1_711_900_000_000_000_001)]).warnings == (
        "log.csv: times so large are rounded to multiples of 256; subtract an offset.",
    )
    stamps = pl.Series([0, 1_000, 2_001]).cast(pl.Datetime("ns"))
    assert typed(tmp_path, stamps).warnings == ("log.parquet: 1 of 3 times were cut to whole microseconds.",)


def test_days_spelled_as_numbers_are_told(tmp_path: Path) -> None:
    (text,) = found(tmp_path, ["20240331", "20240401"]).warnings
    assert "look like dates such as 20240331" in text
    assert "give date_format='%Y%m%d'" in text
    assert found(tmp_path, ["20240331", "20241301"]).warnings == ()  # there is no month 13
    events = found(tmp_path, ["20240331", "20240401"], date_format="%Y%m%d").parts["all"]
    assert events.gaps.tolist() == [0.0, 86_400.0]
    days = tmp_path / "days.parquet"
    pl.DataFrame({"sequence": [1, 1], "time": [20240331, 20240401]}).write_parquet(days)
    assert table.read(days, mark=None, date_format="%Y%m%d").parts["all"].gaps.tolist() == [0.0, 86_400.0]


def test_dates_without_a_zone_among_others_are_told(tmp_path: Path) -> None:
    given = found(tmp_path, ["2024-05-01 10:00", "2024-05-01T10:30+02:00"], zone="Europe/Berlin")
    assert given.parts["all"].gaps.tolist() == [0.0, 1800.0]
    assert given.warnings == ("log.csv: 1 of 2 times carry no time zone, others do; these were read as Europe/Berlin.",)


def test_ends_of_windows_are_of_the_kind_of_the_times(tmp_path: Path) -> None:
    with pytest.raises(TPPError, match="end='2030-01-01' means dates, and the times are numbers; expected one kind"):
        found(tmp_path, ["1.5"], end="2030-01-01")
    with pytest.raises(TPPError, match="start=0 means numbers, and the times are dates"):
        found(tmp_path, ["2024-01-01"], start=0)
    with pytest.raises(TPPError, match="end='inf'; expected a finite number"):
        found(tmp_path, ["1.5"], end="inf")


def test_names_of_sequences_are_kept_in_order_of_appearance(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("sequence , time, mark\nb c, 1, x\n 01,2,x\nb c,3, y z \n1,4,x\n")
    given = table.read(path)
    assert given.ids == {"all": ("b c", "01", "1")}
    assert given.parts["all"].lengths.tolist() == [2, 1, 1]
    assert given.parts["all"].marks == ("x", "y z"), "blanks around cells and names are no part of them"
    assert table.read(path, sequence=None, sort=True).ids == {}
    floats = tmp_path / "t.parquet"
    pl.DataFrame({"sequence": [3.0, 0.5, 3.0], "time": [1, 2, 3]}).write_parquet(floats)
    assert table.read(floats, mark=None).ids == {"all": ("3.0", "0.5")}
    pl.DataFrame({"id": [7, 8], "timestamps": [[1.0], [2.0, 3.0]], "labels": [[0], [0, 1]]}).write_parquet(floats)
    assert read(floats).ids == {"all": ("7", "8")}


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("mark", pl.Series([["a"], ["b"]])),
        ("mark", pl.Series([{"k": 1}, {"k": 2}])),
        ("mark", pl.Series([b"a", b"\xff"])),
        ("sequence", pl.Series([[1], [2]])),
        ("sequence", pl.Series([1.0, float("nan")])),
        ("time", pl.Series([datetime(2024, 1, 1) - datetime(2023, 1, 1)] * 2)),
        ("time", pl.Series([True, False])),
    ],
)
def test_columns_that_are_no_names_or_times_are_refused(tmp_path: Path, column: str, cells: pl.Series) -> None:
    frame = pl.DataFrame({"sequence": [1, 1], "time": [1.0, 2.0], "mark": ["a", "b"]})
    frame.with_columns(cells.alias(column)).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(TPPError, match=rf"t.parquet.*'{column}'"):
        table.read(tmp_path / "t.parquet")


def test_headers_that_mislead(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("sequence,time,time,mark\nx,1,2,a\n")
    with pytest.raises(TPPError, match="log.csv: 2 columns are called 'time'; rename all but one"):
        table.read(path)
    path.write_text("sequence,time,mark,,\nx,1,a,,\n")
    assert table.read(path).parts["all"].time.tolist() == [1.0]
    path.write_bytes("sequence,time,mark\nx,1,ü\n".encode("latin1"))
    with pytest.raises(TPPError, match="log.csv: not readable as a table: it is not in UTF-8; save it so"):
        table.read(path)
    path.write_text("sequence,time,mark\nx," + 99 * "9e9" + ",a\n")
    with pytest.raises(TPPError, match=r"line 2: '9e9.{50,60}\.\.\. is no") as caught:
        table.read(path)
    assert len(str(caught.value)) < 300


def test_what_nobody_recognises_is_described(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,at,page\nx,1,a\n")
    with pytest.raises(TPPError, match=r"no column 'time' .* but user, at, page. Name its columns: time='...'"):
        recognise(path)
    path.write_text("# a comment\nuser,at,page\nx,1,a\n")
    with pytest.raises(TPPError, match="not readable as a table: line 2 has 3 cells, the header 1"):
        recognise(path)
    with pytest.raises(TPPError, match="the folder holds log.csv. Give a file in it, or format=, one of gatech"):
        recognise(tmp_path)
    with pytest.raises(TPPError, match="gone: no such file or directory"):
        read(tmp_path / "gone")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(b"")

    def refused(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(TPPError, match="x.pkl: permission denied"):
        read(path)


def test_events_keep_all_digits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(1.7e9, 1.7e9 + 1, 50))
    events: Events = found(tmp_path, [repr(t) for t in times.tolist()]).parts["all"]
    assert np.array_equal(events.time, times)
