"""``accord data`` as a user meets it: every genuine format, column mappings, mistakes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from accord.cli.reading import Reading
from accord.cli.tpp.source import recorded, training
from accord.problems import parse
from accord.tpp import store
from accord.tpp.errors import TPPError
from accord.tpp.readers import read

DATA = Path(os.environ.get("ACCORD_DATA", "/nowhere"))
SAMPLES = DATA / "tpp" / "raw_samples"
CLICKS = "user,at,page\nada,1.0,home\nbob,1.5,help\nada,2.5,help\nada,4.0,home\nbob,7.0,home\n"


@pytest.fixture
def clicks(tmp_path):
    """A table with columns of its own."""
    path = tmp_path / "clicks.csv"
    path.write_text(CLICKS)
    return path


def mistake(outcome: tuple[int, str, str]) -> str:
    code, out, text = outcome
    assert (code, out) == (2, "")
    assert 1 <= text.count("\n") <= 2, text
    assert text.startswith("accord: ")
    assert "Traceback" not in text
    return text.strip()


def stored(name: str) -> dict:
    return store.load(name, Path("data") / "imported")


@pytest.mark.parametrize(
    "sample",
    [
        ("gatech_pickle/taxi_dev.pkl",),
        ("easytpp_json/synthetic_data.json",),
        ("ifl_tpp/hawkes1.npz",),
        ("ifl_tpp/taxi_torch_saved.pkl",),
        ("grad_tpp_json/lastfm/split_0",),
        ("du_text/synthetic_hawkes",),
        ("gntpp_pickle/stackoverflow_val_manifold_format.pkl",),
        ("process_log_csv/helpdesk.csv",),
        ("event_table_csv/sanjac_catalog_first5000.csv", "--sequence", "none", "--mark", "magnitude")
        + ("--mark-bins", "1,1.5,2"),
    ],
    ids=lambda sample: sample[0],
)
def test_genuine_samples_are_imported_listed_and_checked(call, sample):
    file, *options = sample
    if not (SAMPLES / file).exists():
        pytest.skip(f"needs the data folder in ACCORD_DATA ({file})")
    code, out, err = call("data", "import", SAMPLES / file, "--as", "sample", "--licence", "its own", *options)
    assert (code, err) == (0, "")
    assert "accord tpp fit tpp:sample" in out
    found = stored("sample")
    if not options:
        for part, events in read(SAMPLES / file).parts.items():
            np.testing.assert_array_equal(found[part].time, events.time)
            np.testing.assert_array_equal(found[part].mark, events.mark)
    code, out, _ = call("data", "list")
    assert code == 0
    assert "tpp:sample" in out
    assert "its own" in out
    code, out, _ = call("data", "check", "sample")
    assert code == 0
    assert "note" in out or "warning" in out


def test_columns_are_mapped_and_the_rest_is_kept(call, clicks):
    code, out, _ = call(
        "data", "import", clicks, "--as", "clicks", "--sequence", "user", "--time", "at", "--mark", "page",
        "--start", "0", "--end", "8", "--unit", "hour", "--licence", "mine",
    )  # fmt: skip
    assert code == 0
    assert "2 marks" in out
    (events,) = stored("clicks").values()
    assert events.lengths.tolist() == [3, 2]
    assert events.marks == ("help", "home")
    assert (events.start.tolist(), events.end.tolist()) == ([0, 0], [8, 8])
    assert (events.unit, events.licence, events.tick) == ("hour", "mine", 0.1)
    (entry,) = store.listing(Path("data") / "imported")
    assert entry.source == "clicks.csv"
    assert len(entry.sha256) == 64


def test_options_of_readers_by_key_and_value(call, clicks):
    options = [f"--option={pair}" for pair in ("sequence=user", "time=at", "mark=none", "vocabulary=event")]
    assert call("data", "import", clicks, "--as", "times", *options)[0] == 0
    (events,) = stored("times").values()
    assert events.marks == ("event",)
    again = ["data", "import", clicks, "--as", "b"]
    assert "no option 'tme'" in mistake(call(*again, "--format", "table", "--option=tme=x"))
    assert "key=value" in mistake(call(*again, "--option", "time"))
    text = mistake(call(*again, "--time", "at", "--option", "sort=maybe"))
    assert "true or false" in text
    text = mistake(call(*again, "--time", "at", "--mark", "at", "--mark-bins", "1;2"))
    assert "commas" in text


def test_a_taken_name_needs_replace(call, clicks):
    arguments = ["data", "import", clicks, "--as", "clicks", "--sequence", "user", "--time", "at", "--mark", "page"]
    assert call(*arguments)[0] == 0
    assert "in the store already" in mistake(call(*arguments))
    clicks.write_text(CLICKS + "bob,9.0,help\n")
    assert call(*arguments, "--replace")[0] == 0
    assert stored("clicks")["all"].time.size == 6


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["import", "nowhere.csv", "--as", "x"], "no such file"),
        (["import", "clicks.csv", "--as", "../x", "--time", "at", "--sequence", "user", "--mark", "page"], "no name"),
        (["import", "clicks.csv", "--as", "x"], "unknown format"),
        (["import", "clicks.csv", "--as", "x", "--format", "tabel"], "Did you mean 'table'?"),
        (["import", "clicks.csv", "--as", "x", "--time", "when", "--mark", "none"], "no column 'when'"),
        (["import", "clicks.csv"], "--as"),
        (["check", "nothing"], "unknown"),
        (["check", "nothing.csv"], "no such file"),
        (["check", "tpp:nothing"], "was imported"),
        (["check", "digits"], "no set of event sequences"),
        (["chek", "x"], "Did you mean 'check'?"),
    ],
)
def test_mistakes_give_one_line(call, clicks, arguments, expected):
    assert expected.lower() in mistake(call("data", *arguments)).lower()
    assert not list(Path("data").glob("imported/*"))


def test_a_store_that_cannot_be_written_names_the_variable(call, clicks):
    Path("data", "imported").write_text("a file where the folder should be")
    text = mistake(call("data", "import", clicks, "--as", "x", "--time", "at"))
    assert "cannot be written" in text
    assert "ACCORD_DATA" in text


def test_a_damaged_set_is_listed_as_such(call, clicks):
    call("data", "import", clicks, "--as", "clicks", "--sequence", "user", "--time", "at", "--mark", "page")
    Path("data", "imported", "clicks", "meta.json").write_text("{")
    code, out, _ = call("data", "list")
    assert code == 0
    assert "damaged" in out
    assert "damaged" in mistake(call("data", "check", "clicks"))


def test_strict_makes_errors_count(call, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    for part in ("train", "test"):
        (folder / f"{part}.csv").write_text("sequence,time,mark\n1,1.0,a\n1,2.5,b\n")
    code, out, _ = call("data", "check", folder)
    assert code == 0
    assert out.startswith("error    copies: 1 of 2 sequences is an exact copy")
    assert call("data", "check", folder, "--strict")[0] == 1
    (folder / "test.csv").write_text("sequence,time,mark\n1,1.0,a\n1,3.5,b\n")
    assert call("data", "check", folder, "--strict")[0] == 0


def test_an_empty_list_says_what_to_do(call):
    code, out, _ = call("data", "list")
    assert code == 0
    assert "accord data import FILE --as NAME" in out


def test_help_names_the_formats(call):
    assert "process_log" in call("data", "import", "--help")[1]


@pytest.mark.parametrize("name", ["tpp-taxi", "tpp-github", "tpp-lastfm"])
def test_training_data_are_those_of_the_problem(name, monkeypatch):
    if not (DATA / "tpp" / f"{name.removeprefix('tpp-')}.parquet").exists():
        pytest.skip("needs the data folder in ACCORD_DATA")
    taken, theirs = training(name, Reading(), 1), parse(name).splits(1)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(taken.splits, part).time, getattr(theirs, part).time)
        assert getattr(taken.splits, part).marks == getattr(theirs, part).marks
    raw = recorded(name, Reading(), 1).parts
    assert (taken.splits.test.time.max() / taken.done.factor + taken.done.offset) in raw["test"].time


def test_an_imported_set_is_the_same_problem_everywhere(call, tmp_path):
    rows = [f"{s},{s + 1.5 * i},{i % 3}" for s in range(20) for i in range(6)]
    (tmp_path / "many.csv").write_text("\n".join(["sequence,time,mark", *rows]))
    assert call("data", "import", "many.csv", "--as", "many")[0] == 0
    taken, theirs = training("tpp:many", Reading(), 2), parse("tpp:many").splits(2)
    assert taken.splits.train.fingerprints() == theirs.train.fingerprints()
    assert len(training("tpp:many(limit=3)", Reading(), 2).splits.train) == 3
    with pytest.raises(TPPError, match="kind is an option of this command"):
        training("tpp:many(kind='lnm')", Reading(), 2)
