"""Tables, process logs and the shared sets, read as plain Python would."""

from __future__ import annotations

import gzip
import json
import os
import random
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.readers import hotpp, process_log, table
from accord.tpp.readers.shared import read_shared

pl = pytest.importorskip("polars", reason="tables need polars")


def real(*names: str) -> list[Path]:
    found = [Path(os.environ.get("ACCORD_DATA", "/nowhere"), "tpp", name) for name in names]
    for path in found:
        if not path.is_file():
            pytest.skip(f"needs {path.name} in the folder ACCORD_DATA")
    return found


def written(folder: Path, text: str, name: str = "log.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def all_of(path: Path, **options: object) -> Events:
    return table.read(path, **options).parts["all"]  # type: ignore[arg-type]


def same(a: Events, b: Events) -> bool:
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ("time", "mark", "offsets"))


# Against slow reading, and against other routes to the same events.


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "parquet"])
@pytest.mark.parametrize("seed", range(3))
def test_interleaved_rows_against_plain_python(tmp_path: Path, suffix: str, seed: int) -> None:
    rng = random.Random(seed)
    clock = dict.fromkeys(("ada", "bob", "eve", "z"), 0)
    rows = []
    for _ in range(200):
        name = rng.choice(list(clock))
        clock[name] += rng.randrange(3)
        rows.append((name, clock[name] / 8, rng.choice(["10", "9", "-1"])))
    slow: dict[str, list[tuple[float, str]]] = {}
    for name, at, kind in rows:
        slow.setdefault(name, []).append((at, kind))
    path = tmp_path / f"t.{suffix}"
    if suffix == "parquet":
        pl.DataFrame(rows, schema=["sequence", "time", "mark"], orient="row").write_parquet(path)
    else:
        lines = "\n".join(
            ("\t" if suffix == "tsv" else ",").join(map(str, row)) for row in [("sequence", "time", "mark"), *rows]
        )
        path.write_bytes(gzip.compress(lines.encode()) if suffix == "csv.gz" else lines.encode())
    events = all_of(path)
    assert events.marks == ("-1", "9", "10")
    assert events.lengths.tolist() == [len(x) for x in slow.values()]
    assert events.time.tolist() == [at for x in slow.values() for at, _ in x]
    assert [events.marks[k] for k in events.mark] == [kind for x in slow.values() for _, kind in x]
    assert (events.name, events.unit) == ("t", "1")
    assert np.isnan(events.start).all()
    assert np.isnan(events.end).all()


def test_the_process_log_equals_its_converted_form() -> None:
    log, converted = real("raw_samples/process_log_csv/helpdesk.csv", "helpdesk.parquet")
    assert process_log.recognises(log)
    assert not table.recognises(log)
    assert not hotpp.recognises(log)
    events, other = process_log.read(log).parts["all"], all_of(converted)
    assert (len(events), events.time.size, len(events.marks)) == (3804, 13_710, 9)
    assert same(events, other)
    assert events.unit == other.unit == "second"


def test_an_earthquake_catalogue_with_binned_magnitudes() -> None:
    (path,) = real("raw_samples/event_table_csv/sanjac_catalog_first5000.csv")
    assert table.recognises(path)
    events = all_of(path, sequence=None, mark="magnitude", mark_bins=[1.5, 2, 3])
    assert (len(events), events.time.size) == (1, 5000)
    assert events.marks == ("below 1.5", "1.5 to 2", "2 to 3", "3 and above")
    magnitude = pl.read_csv(path)["magnitude"].to_numpy()
    assert np.array_equal(events.mark, np.digitize(magnitude, [1.5, 2, 3]))
    first = datetime(2008, 1, 1, 5, 19, 47, 961_000, tzinfo=ZoneInfo("UTC")).timestamp()
    assert events.time[0] == pytest.approx(first, abs=1e-6)
    with pytest.raises(TPPError, match="line 2: '1.23' is no mark but a fraction, .* mark_bins="):
        all_of(path, sequence=None, mark="magnitude")


COUNTS = {  # sequences, events, marks: as documented with the sets
    "mooc": (6234, 311_806, 50), "github": (173, 20_657, 8), "taxi": (2000, 74_078, 10), "taobao": (2000, 115_397, 17),
    "bpi12_w": (9658, 72_413, 6), "env_permit": (937, 38_944, 381), "ali": (4136, 174_595, 1754),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_shared_sets_and_their_splits(name: str) -> None:
    parquet, splits = real(f"{name}.parquet", f"{name}.splits.json")
    events = all_of(parquet)
    assert (len(events), events.time.size, len(events.marks)) == COUNTS[name]
    parts = read_shared(parquet, splits, seed=2)
    n = COUNTS[name][0]
    order = np.random.default_rng(2).permutation(n)
    assert parts.train.fingerprints() == events.subset(np.sort(order[: int(0.6 * n)])).fingerprints()
    assert len(parts.validation) == int(0.2 * n)
    assert len(parts.train) + len(parts.validation) + len(parts.test) == n


def test_the_window_unit_and_tick_of_shared_sets() -> None:
    parquet, splits = real("github.parquet", "github.splits.json")
    parts = read_shared(parquet, splits)
    assert (parts.test.unit, parts.test.tick, parts.test.name) == ("second", 1.0, "github")
    assert np.unique(parts.test.start).tolist() == [1_357_027_200.0]
    assert np.unique(parts.test.end).tolist() == [1_388_563_200.0]
    parquet, splits = real("mooc.parquet", "mooc.splits.json")
    assert np.isnan(read_shared(parquet, splits).test.start).all()
    assert read_shared(parquet, splits, start=0.0).test.scored.all()
    assert read_shared(parquet, splits).test.unit == "1 = 257208.6 s"


def test_splits_that_do_not_fit(tmp_path: Path) -> None:
    path = written(tmp_path, "sequence,time,mark\n0,1,a\n0,2,a\n1,1,a\n2,5,b\n")
    lists = {"train": [0], "val": [1], "test": [2]}
    splits = written(tmp_path, json.dumps({"seeds": [0, 7], "splits": [lists, lists]}), "s.json")
    assert read_shared(path, splits, seed=7).test.time.tolist() == [5.0]
    with pytest.raises(TPPError, match="s.json: no split for the seed 1; it has 0, 7"):
        read_shared(path, splits, seed=1)
    for wrong in ({"test": [1]}, {"test": [3]}, {"train": [0, 0]}):
        written(tmp_path, json.dumps({"seeds": [0], "splits": [lists | wrong]}), "s.json")
        with pytest.raises(TPPError, match="split 0 does not name each of the 3 sequences once"):
            read_shared(path, splits)
    for broken in ("{", "[]", '{"seeds": [0]}', '{"seeds": [0], "splits": []}'):
        written(tmp_path, broken, "s.json")
        with pytest.raises(TPPError, match="s.json: no readable file of splits"):
            read_shared(path, splits)


# Dates.


@pytest.mark.parametrize(
    ("cell", "zone", "moment"),
    [
        ("2024-01-31", "UTC", datetime(2024, 1, 31, tzinfo=ZoneInfo("UTC"))),
        ("2024-07-01 12:30", "Europe/Berlin", datetime(2024, 7, 1, 10, 30, tzinfo=ZoneInfo("UTC"))),
        ("2024-01-01T12:30:15.25", "Europe/Berlin", datetime(2024, 1, 1, 11, 30, 15, 250_000, tzinfo=ZoneInfo("UTC"))),
        ("2024-07-01T12:30:00Z", "Europe/Berlin", datetime(2024, 7, 1, 12, 30, tzinfo=ZoneInfo("UTC"))),
        ("2024-07-01 12:30:00+05:30", "Europe/Berlin", datetime(2024, 7, 1, 7, tzinfo=ZoneInfo("UTC"))),
        ("2024-07-01T12:30-0800", "UTC", datetime(2024, 7, 1, 20, 30, tzinfo=ZoneInfo("UTC"))),
        (" 1965-03-01 00:00:00 ", "UTC", datetime(1965, 3, 1, tzinfo=ZoneInfo("UTC"))),
        ("2024-10-27 02:30:00", "Europe/Berlin", datetime(2024, 10, 27, 0, 30, tzinfo=ZoneInfo("UTC"))),
    ],
)
def test_dates_become_seconds_since_1970(tmp_path: Path, cell: str, zone: str, moment: datetime) -> None:
    events = all_of(written(tmp_path, f"sequence,time,mark\nx,{cell},a\n"), zone=zone)
    assert events.time.tolist() == [moment.timestamp()]
    assert events.unit == "second"


def test_dates_with_and_without_offset_in_one_column(tmp_path: Path) -> None:
    text = "sequence,time,mark\nx,2024-01-01,a\nx,2024-01-01T10:00+09:00,a\nx,2024-01-01 02:00:00,a\n"
    assert all_of(written(tmp_path, text)).gaps.tolist() == [0.0, 3600.0, 3600.0]


def test_own_date_formats(tmp_path: Path) -> None:
    path = written(tmp_path, "sequence;time;mark\nx;31.03.2024 14:05;a\nx;31.03.2024 14:06;a\n")
    events = all_of(path, date_format="%d.%m.%Y %H:%M", zone="Europe/Berlin")
    assert events.time[0] == datetime(2024, 3, 31, 14, 5, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    path = written(tmp_path, "sequence;time;mark\nx;31/03/2024 14:05 +0200;a\n")
    assert all_of(path, date_format="%d/%m/%Y %H:%M %z").time[0] == events.time[0]


def test_hours_that_a_zone_has_twice_are_counted_and_missing_ones_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "sequence,time,mark\nx,2024-10-27 02:30:00,a\nx,2024-10-27 12:00:00,a\n")
    assert table.read(path, zone="Europe/Berlin").warnings == (
        "log.csv: 1 of 2 times fall in an hour that Europe/Berlin has twice; the first was taken.",
    )
    assert table.read(path).warnings == ()
    path = written(tmp_path, "sequence,time,mark\nx,2024-03-30,a\nx,2024-03-31 02:30:00,a\n")
    with pytest.raises(
        TPPError, match="log.csv, line 3: '2024-03-31 02:30:00' does not exist in the time zone Europe/Berlin"
    ):
        all_of(path, zone="Europe/Berlin")


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "America/New_York"])
def test_typed_dates_of_parquet(tmp_path: Path, unit: str, zone: str | None) -> None:
    stamps = pl.Series("time", [datetime(2024, 7, 1), datetime(2024, 7, 1, 0, 0, 1, 500_000)]).dt.cast_time_unit(unit)
    frame = pl.DataFrame({"sequence": [1, 1], "time": stamps.dt.replace_time_zone(zone), "mark": ["a", "a"]})
    frame.write_parquet(tmp_path / "t.parquet")
    expected = datetime(2024, 7, 1, tzinfo=ZoneInfo(zone or "Asia/Tokyo")).timestamp()
    assert all_of(tmp_path / "t.parquet", zone="Asia/Tokyo").time.tolist() == [expected, expected + 1.5]


def test_days_of_parquet(tmp_path: Path) -> None:
    days = pl.Series("time", ["2024-01-01", "2024-01-03"]).str.to_date()
    pl.DataFrame({"sequence": [1, 1], "time": days, "mark": [0, 0]}).write_parquet(tmp_path / "t.parquet")
    assert all_of(tmp_path / "t.parquet").gaps.tolist() == [0.0, 172_800.0]


# Order, windows, marks.


def test_ties_keep_the_order_of_the_file_and_steps_back_are_refused_unless_sorted(tmp_path: Path) -> None:
    path = written(tmp_path, "sequence,time,mark\nx,1,c\ny,0,a\nx,1,a\nx,1,b\n")
    assert [all_of(path).marks[k] for k in all_of(path).mark] == ["c", "a", "b", "a"]
    path = written(tmp_path, "sequence,time,mark\nx,2,a\ny,9,a\nx,1,b\nx,2,c\nx,1,d\n")
    with pytest.raises(
        TPPError, match=r"log.csv, line 4: lies before the event in front of it .* sort=True \(2 such rows\)"
    ):
        all_of(path)
    found = table.read(path, sort=True)
    events = found.parts["all"]
    assert events.time.tolist() == [1.0, 1.0, 2.0, 2.0, 9.0]
    assert [events.marks[k] for k in events.mark] == ["b", "d", "a", "c", "a"]
    assert found.warnings == ("log.csv: 2 of 5 rows stood behind a later event; sorted.",)


def test_windows_from_columns_numbers_and_dates(tmp_path: Path) -> None:
    path = written(tmp_path, "sequence,time,mark,from,to\nx,1,a,0,8\ny,2,a,1.5,9\nx,3,a,0,8\n")
    events = all_of(path, start="from", end="to")
    assert (events.start.tolist(), events.end.tolist()) == ([0.0, 1.5], [8.0, 9.0])
    events = all_of(path, start=0.5, end="20")
    assert (events.start.tolist(), events.end.tolist()) == ([0.5, 0.5], [20.0, 20.0])
    dated = written(tmp_path, "sequence,time,mark\nx,2024-01-02,a\n", "d.csv")
    assert all_of(dated, start="2024-01-01", end="2024-01-02 12:00").tails.tolist() == [43_200.0]
    with pytest.raises(TPPError, match="start='form' is neither a column of log.csv nor a number or date"):
        all_of(path, start="form")
    path = written(tmp_path, "sequence,time,mark,from\nx,1,a,0\nx,3,a,1\n")
    with pytest.raises(TPPError, match="line 3: '1' differs from the start that the first row of its sequence has"):
        all_of(path, start="from")


def test_marks_by_value_by_alphabet_given_or_absent(tmp_path: Path) -> None:
    path = written(tmp_path, "sequence,time,mark\nx,1,10\nx,2,9.0\nx,3,9\n")
    assert all_of(path).marks == ("9", "10")
    path = written(tmp_path, "sequence,time,mark\nx,1,01\nx,2,1\nx,3,b\n")
    assert all_of(path).marks == ("01", "1", "b")
    assert all_of(path, vocabulary=["b", "1", "01", "c"]).mark.tolist() == [2, 1, 0]
    assert all_of(path, mark=None).marks == ("event",)
    with pytest.raises(TPPError, match="log.csv, line 4: 'b' is a mark that the vocabulary does not hold"):
        all_of(path, vocabulary=["1", "01"])


def test_floats_that_are_whole_numbers_are_marks_without_decimals(tmp_path: Path) -> None:
    frame = pl.DataFrame({"sequence": ["x"] * 3, "time": [1, 2, 3], "mark": [10.0, 9.0, 10.0]})
    frame.write_parquet(tmp_path / "t.parquet")
    assert all_of(tmp_path / "t.parquet").marks == ("9", "10")


def test_bins_hold_their_left_edge(tmp_path: Path) -> None:
    path = written(
        tmp_path, "sequence,time,size\n" + "".join(f"x,{i},{v}\n" for i, v in enumerate([1.9, 2, 2.5, 3, 99]))
    )
    events = all_of(path, mark="size", mark_bins=[2, 3])
    assert events.mark.tolist() == [0, 1, 1, 2, 2]
    for bins in ([], [3, 2], [2, 2]):
        with pytest.raises(TPPError, match="expected increasing edges"):
            all_of(path, mark="size", mark_bins=bins)
    with pytest.raises(TPPError, match="mark_bins needs the column"):
        all_of(path, mark=None, mark_bins=[2])


def test_a_folder_of_parts_has_one_vocabulary(tmp_path: Path) -> None:
    written(tmp_path, "sequence,time,mark\nx,1,b\n", "set/train.csv")
    written(tmp_path, "sequence,time,mark\nx,1,c\n", "set/dev.csv")
    written(tmp_path, "sequence,time,mark\nx,1,a\n", "set/test.csv")
    written(tmp_path, "nothing", "set/readme.csv")
    assert table.recognises(tmp_path / "set")
    parts = table.read(tmp_path / "set").parts
    assert {part: events.mark.tolist() for part, events in parts.items()} == {
        "train": [1],
        "validation": [2],
        "test": [0],
    }
    assert parts["train"].marks == ("a", "b", "c")
    assert parts["train"].name == "set"
    written(tmp_path, "sequence,time,mark\nx,2024-01-01,a\n", "set/test.csv")
    with pytest.raises(TPPError, match="dates in some files and numbers in others"):
        table.read(tmp_path / "set")
    written(tmp_path, "", "set/val.csv")
    with pytest.raises(TPPError, match="both dev.csv and val.csv hold the part validation"):
        table.read(tmp_path / "set")
    with pytest.raises(TPPError, match="no table called train, validation or test"):
        table.read(tmp_path)
