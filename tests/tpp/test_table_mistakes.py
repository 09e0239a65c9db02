"""What is wrong in a table is named by file and line; what is no table is not recognised; HoTPP files."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.readers import hotpp, process_log, table

pl = pytest.importorskip("polars", reason="tables need polars")


def written(folder: Path, text: str, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def all_of(path: Path, **options: object) -> Events:
    return table.read(path, **options).parts["all"]  # type: ignore[arg-type]


# Mistakes: file, line, what to do.


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("x,1,a\nx,,a", r"log.csv, line 3: no value in the column 'time'"),
        ("x,1,a\nx,nan,a", r"log.csv, line 3: 'nan' is no finite number, in the column 'time'"),
        ("x,1,a\nx,inf,a", r"log.csv, line 3: 'inf' is no finite number"),
        ("x,1,a\nx,soon,a\nx,3,a\nx,never,a", r"log.csv, line 3: 'soon' is no finite number.* \(2 such rows\)"),
        ("x,2024-01-01,a\nx,2024-02-30,a", r"log.csv, line 3: '2024-02-30' is no ISO date"),
        ("x,2024-01-01,a\nx,01.02.2024,a", r"log.csv, line 3: '01.02.2024' .* date_format="),
        ("x,1,a\nx,2,", r"log.csv, line 3: no mark in the column 'mark'"),
        ('x,1,a\nx,2,""', r"log.csv, line 3: no mark in the column 'mark'"),
        ("x,1,a\n,2,a", r"log.csv, line 3: no sequence in the column 'sequence'"),
        ("x,1,a\nx", r"log.csv, line 3: no mark in the column 'mark'"),
        ("x,1,a\n\n\nx,,a", r"log.csv, line 5: no value"),
        ('x,1,"a\nb"\nx,,a', r"log.csv, line 4: no value"),
        ("x,1,a\nx,2,a,7", r"log.csv: not readable as a table: line 3 has 4 cells, the header 3"),
        ("x,1,1\nx,2,1.5", r"log.csv, line 3: '1.5' is no mark but a fraction"),
        ("x,1,1\nx,2,nan", r"log.csv, line 3: 'nan' is no mark, in the column 'mark'"),
        ("", r"log.csv: holds no rows"),
    ],
)
def test_a_bad_cell_is_named_by_file_and_line(tmp_path: Path, rows: str, message: str) -> None:
    path = written(tmp_path, f"sequence,time,mark\n{rows}\n")
    with pytest.raises(TPPError, match=message):
        all_of(path)


def test_bad_cells_of_parquet_are_named_by_row(tmp_path: Path) -> None:
    pl.DataFrame({"sequence": [1, 1], "time": [1.0, None], "mark": [0, 0]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(TPPError, match="t.parquet, row 2: no value in the column 'time'"):
        all_of(tmp_path / "t.parquet")
    pl.DataFrame({"sequence": [1], "time": [[1.0]], "mark": [0]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(TPPError, match=r"the column 'time' holds List\(Float64\); expected numbers or dates"):
        all_of(tmp_path / "t.parquet")


def test_missing_columns_files_and_zones(tmp_path: Path) -> None:
    path = written(tmp_path, "user,time,page\nx,1,a\n")
    with pytest.raises(
        TPPError, match="no column 'mark' for the mark. Known: user, time, page. Name the right one, mark="
    ):
        all_of(path, sequence="user")
    with pytest.raises(
        TPPError, match="no column 'usr' for the sequence. Did you mean 'user'.* None if the file is one"
    ):
        all_of(path, sequence="usr", mark="page")
    with pytest.raises(TPPError, match="gone.csv: no such file"):
        all_of(tmp_path / "gone.csv")
    dated = written(tmp_path, "sequence,time,mark\nx,2024-01-01,a\n", "d.csv")
    with pytest.raises(TPPError, match="unknown time zone 'Mars/Base'"):
        all_of(dated, zone="Mars/Base")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "bad.csv.gz").write_bytes(gzip.compress(b"sequence,time,mark\nx,1,a\n" * 99)[:30])
    (tmp_path / "bad.csv").write_bytes(b"sequence,time\n\xff\xfe,1\n")
    written(tmp_path, "", "empty.csv")
    for name in ("bad.parquet", "bad.csv.gz", "bad.csv", "empty.csv"):
        with pytest.raises(TPPError, match=f"{name}: not readable as a table"):
            all_of(tmp_path / name)


def test_without_polars_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(TPPError, match=r"pip install 'accord\[bench\]'"):
        all_of(written(tmp_path, "sequence,time,mark\nx,1,a\n"))
    assert not table.recognises(tmp_path / "x.pkl")


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\xff\xff", b"a,b\n1,2\n"])
@pytest.mark.parametrize("name", ["x.pkl", "x.csv", "x.parquet", "x.csv.gz", "x"])
def test_what_is_no_table_is_not_recognised(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    for reader in (table, process_log, hotpp):
        assert not reader.recognises(tmp_path / name)
        assert not reader.recognises(tmp_path)
        assert not reader.recognises(tmp_path / "gone")


def test_other_spellings_of_process_logs_and_no_log(tmp_path: Path) -> None:
    text = "case:concept:name,concept:name,time:timestamp\nc1,Submit,2024-01-01T10:00:00+01:00\n"
    path = written(tmp_path, text)
    assert process_log.recognises(path)
    assert process_log.read(path).parts["all"].marks == ("Submit",)
    path = written(tmp_path, "CaseID,ActivityID\n1,2\n")
    assert not process_log.recognises(path)
    with pytest.raises(TPPError, match="log.csv: no process log; expected the columns CaseID, ActivityID"):
        process_log.read(path)


def test_metadata_that_is_damaged(tmp_path: Path) -> None:
    frame = pl.DataFrame({"sequence": [0], "time": [1.0], "mark": [0]})
    frame.write_parquet(tmp_path / "t.parquet", metadata={"dataset": "{"})
    with pytest.raises(TPPError, match="t.parquet: the metadata entry 'dataset' is not readable"):
        all_of(tmp_path / "t.parquet")
    frame.write_parquet(tmp_path / "t.parquet", metadata={"dataset": '{"num_marks": 4, "window": [0, 9]}'})
    events = all_of(tmp_path / "t.parquet")
    assert (len(events.marks), events.start.tolist(), events.end.tolist()) == (4, [0.0], [9.0])


# HoTPP.


def test_lists_and_rows_give_the_same_events(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times = [np.sort(rng.uniform(1.5e9, 1.5e9 + 9, n)) for n in (3, 1, 6)]
    labels = [rng.integers(0, 12, t.size) for t in times]
    frame = pl.DataFrame({"id": ["a", "b", "c"], "timestamps": times, "labels": labels, "amounts": times})
    frame.write_parquet(tmp_path / "h.parquet")
    assert hotpp.recognises(tmp_path / "h.parquet")
    assert not table.recognises(tmp_path / "h.parquet")
    found = hotpp.read(tmp_path / "h.parquet")
    flat = frame.select(sequence="id", time="timestamps", mark="labels").explode("time", "mark")
    flat.write_parquet(tmp_path / "t.parquet")
    other = all_of(tmp_path / "t.parquet")
    assert np.array_equal(found.parts["all"].mark, other.mark)
    assert np.array_equal(found.parts["all"].offsets, other.offsets)
    assert found.parts["all"].marks == other.marks
    assert found.parts["all"].time.tolist() == np.concatenate(times).tolist()
    assert found.warnings == ()


def test_lists_with_defects(tmp_path: Path) -> None:
    path = tmp_path / "h.parquet"

    def put(times: list, labels: list, kind: object = pl.Float64) -> None:
        schema = {"timestamps": pl.List(kind), "labels": pl.List(pl.Int64)}  # type: ignore[arg-type]
        pl.DataFrame({"timestamps": times, "labels": labels}, schema=schema).write_parquet(path)

    put([[1.5e9, 1.5e9 + 256]], [[0, 1]], pl.Float32)
    assert hotpp.read(path).warnings == ("h.parquet: times are stored in float32, 128 apart at the largest.",)
    for times, labels, message in (
        ([[1.0], [1.0, 2.0]], [[0], [0]], "row 2: has lists of different lengths"),
        ([[1.0], [2.0, 1.0]], [[0], [0, 0]], "row 2: 1.0 is a time before the one in front of it"),
        ([[1.0], [2.0, None]], [[0], [0, 0]], "row 2: no value in the column 'timestamps'"),
        ([[1.0], [2.0, np.inf]], [[0], [0, 0]], "row 2: inf is no finite number, in the column 'timestamps'"),
        ([[1.0], []], [[0], []], "row 2: has no events, and its window is not known; leave the row out"),
        ([[1.0], [2.0]], [[0], [None]], "row 2: no mark in the column 'labels'"),
        ([[1.0], None], [[0], [0]], "row 2: no list in the column 'timestamps'"),
    ):
        put(times, labels)
        with pytest.raises(TPPError, match=f"h.parquet, {message}"):
            hotpp.read(path)
    pl.DataFrame({"timestamps": [1.0], "labels": [[1]]}).write_parquet(path)
    with pytest.raises(TPPError, match="the column 'timestamps' holds Float64; expected lists"):
        hotpp.read(path)
