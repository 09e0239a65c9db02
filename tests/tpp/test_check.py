"""Findings: each one on data that have exactly it, and on real sets whose defects are documented."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from accord.tpp.check import Finding, check
from accord.tpp.events import Events
from accord.tpp.readers import table


def real(name: str, cut: str | int) -> dict[str, Events]:
    folder = Path(os.environ.get("ACCORD_DATA", "/nowhere"), "tpp")
    if not (folder / f"{name}.parquet").is_file():
        pytest.skip(f"needs {name}.parquet in the folder ACCORD_DATA")
    pytest.importorskip("polars", reason="tables need polars")
    events = table.read(folder / f"{name}.parquet").parts["all"]
    given = json.loads((folder / f"{name}.splits.json").read_text())
    lists = given["splits"][cut] if isinstance(cut, int) else given["source_splits"][cut]
    names = {"train": "train", "val": "validation", "dev": "validation", "test": "test"}
    return {names[part]: events.subset(ids) for part, ids in lists.items() if part in names}


def clean(seed: int, count: int = 60, rate: float = 1.0, **about: object) -> Events:
    """Nothing to complain about."""
    rng = np.random.default_rng(seed)
    times = [np.sort(rng.uniform(0.0, 20.0, max(rng.poisson(20 * rate), 1))) for _ in range(count)]
    marks = [np.r_[rng.integers(0, 3, t.size - 1), i % 3] for i, t in enumerate(times)]
    return Events.of(times, marks, start=0.0, end=20.0, names=["a", "b", "c"], **about)


def kinds(findings: list[Finding]) -> dict[str, str]:
    return {finding.kind: finding.severity for finding in findings}


def text(findings: list[Finding], kind: str) -> str:
    return " ".join(finding.text for finding in findings if finding.kind == kind)


def test_clean_data_give_nothing() -> None:
    assert check({"train": clean(0), "validation": clean(1, 20), "test": clean(2, 20)}) == []


def test_copies_across_parts_are_an_error_and_within_a_warning() -> None:
    a, b = clean(0), clean(1, 20)
    b = b.subset([*range(20), 3])
    leaking = Events(
        np.concatenate([b.time, a.subset([5, 6]).time]),
        np.concatenate([b.mark, a.subset([5, 6]).mark]),
        np.concatenate([b.offsets, b.offsets[-1] + a.subset([5, 6]).offsets[1:]]),
        a.marks,
        np.zeros(23),
        np.full(23, 20.0),
    )
    found = check({"train": a, "test": leaking})
    assert [(f.severity, f.kind) for f in found] == [("error", "copies"), ("warning", "copies")]
    assert found[0].text == "2 of 83 sequences are exact copies of one in another part (2 of test in train)."
    assert found[1].text == "1 of 83 sequences is an exact copy of one in the same part."


def test_ties_and_repeated_events() -> None:
    one = Events.of([[1.0, 1.0, 1.0, 2.5, np.pi]], [[0, 1, 0, 0, 1]], start=0.0, end=4.0)
    found = check({"all": one})
    assert kinds(found) == {"ties": "warning", "repeated events": "note"}
    assert text(found, "ties").startswith("50.00% of the gaps are zero")
    assert text(found, "repeated events").startswith("1 of 5 events repeats")


@pytest.mark.parametrize(("step", "severity"), [(0.25, "warning"), (1e-6, "note")])
def test_a_coarse_grid_is_a_warning_a_fine_one_a_note(step: float, severity: str) -> None:
    events = clean(0)
    rounded = Events(
        np.rint(events.time / step) * step, events.mark, events.offsets, events.marks, events.start, events.end
    )
    found = check({"all": rounded})
    assert kinds(found)["time grid"] == severity
    assert f"grid of {step:.6g} units" in text(found, "time grid")


def test_one_very_long_sequence() -> None:
    rng = np.random.default_rng(0)
    times = [np.sort(rng.uniform(0, 9, n)) for n in [10] * 30 + [400]]
    found = check({"all": Events.of(times, [rng.integers(0, 2, t.size) for t in times], start=0.0, end=9.0)})
    assert kinds(found) == {"unequal lengths": "note"}
    assert "400 events, 40 times the median (10) and 57.1% of all" in text(found, "unequal lengths")


def test_marks_constant_unused_and_unseen() -> None:
    events = clean(0)
    constant = Events(events.time, events.mark * 0, events.offsets, ("a",), events.start, events.end)
    assert kinds(check({"all": constant})) == {"constant marks": "warning"}
    unused = Events(events.time, events.mark, events.offsets, ("a", "b", "c", "d"), events.start, events.end)
    found = check({"all": unused})
    assert kinds(found) == {"unused marks": "note"}
    assert text(found, "unused marks") == "1 of 4 marks never occurs, for example 'd'."
    train = Events(events.time, events.mark % 2, events.offsets, events.marks, events.start, events.end)
    test = clean(1)
    found = check({"train": train, "test": test})
    assert kinds(found) == {"marks missing from train": "warning"}
    assert text(found, "marks missing from train").startswith(
        f"{(test.mark == 2).sum():,} of {test.time.size:,} events"
    )


def test_parts_without_sequences() -> None:
    nothing = Events(np.empty(0), np.empty(0, np.int64), np.zeros(1, np.int64), ("a", "b", "c"))
    found = check({"train": clean(0), "test": nothing})
    assert [(f.severity, f.kind) for f in found] == [("error", "no sequences")]
    assert found[0].text == "there are no sequences in test."
    assert [f.text for f in check({"all": nothing})] == ["there are no sequences in all."]
    assert [f.text for f in check({})] == ["there are no sequences at all."]


@pytest.mark.parametrize("name", ["NaN", " none", "NA", ""])
def test_marks_that_may_be_missing_values(name: str) -> None:
    events = clean(0)
    spelled = Events(events.time, events.mark, events.offsets, ("a", name, "nano"), events.start, events.end)
    found = check({"all": spelled})
    assert kinds(found) == {"missing marks": "warning"}
    expected = f"{(events.mark == 1).sum():,} of {events.time.size:,} events have a mark that may stand for"
    assert text(found, "missing marks").startswith(expected)
    assert repr(name) in text(found, "missing marks")


@pytest.mark.parametrize(
    ("unit", "shown"), [("1", "units"), ("hour", "hour"), ("1 = 60 s", "× [1 = 60 s]"), ("9 s", "× [9 s]")]
)
def test_units_are_apart_from_numbers(unit: str, shown: str) -> None:
    events = Events.of([np.arange(20.0)], [np.arange(20) % 2], start=0.0, end=20.0, unit=unit)
    assert f"grid of 1 {shown};" in text(check({"all": events}), "time grid")


def test_windows_and_sequences_without_scored_events() -> None:
    events = Events.of([[0.1, 1.7, 2.2], [0.3]], [[0, 1, 0], [1]], start=[np.nan, np.nan], end=[3.0, np.nan])
    found = check({"all": events})
    assert kinds(found)["nothing scored"] == "warning"
    assert text(found, "nothing scored").startswith("1 of 2 sequences has no scored event")
    assert "unknown for 100% of the sequences, the end for 50%" in text(found, "windows")


def test_times_far_from_zero() -> None:
    events = clean(0)
    far = Events(events.time + 1e6, events.mark, events.offsets, events.marks, events.start + 1e6, events.end + 1e6)
    found = check({"all": far})
    assert "float32" in kinds(found)
    single = far.time.astype(np.float32).astype(float)
    within = far.sequence[1:] == far.sequence[:-1]
    errors = sorted((abs(np.diff(single) - np.diff(far.time)) / np.diff(far.time))[within])
    assert f"wrong by {np.quantile(errors, 0.99):.1%} or more" in text(found, "float32")


def test_a_shift_of_the_gaps_is_found_and_a_random_cut_is_none() -> None:
    train = clean(0)
    assert kinds(check({"train": train, "test": clean(1, 30, rate=3.0)})) == {"shift": "warning"}
    assert check({"train": train, "test": clean(1, 30)}) == []


@pytest.mark.parametrize("seed", range(8))
def test_few_sequences_of_very_different_speed_are_no_shift(seed: int) -> None:
    """Every sequence has its own rate: two random halves differ much, and by chance."""
    rng = np.random.default_rng(seed)
    rates = np.exp(rng.normal(0, 2, 12))
    times = [np.cumsum(rng.exponential(1 / rate, 300)) for rate in rates]
    events = Events.of(times, [rng.integers(0, 2, 300) for _ in times])
    found = check({"train": events.subset(np.arange(6)), "test": events.subset(np.arange(6, 12))})
    # A permutation test at p = 1/200 with 924 different halves: a false alarm in eight data sets has chance 0.04.
    assert "shift" not in kinds(found)


def test_documented_defects_of_real_sets() -> None:
    found = check(real("github", 0))
    assert "18 of 20,657 events repeat" in text(found, "repeated events")
    assert "2.52% of the gaps are zero" in text(found, "ties")
    assert "4,698 events" in text(found, "unequal lengths")
    assert {"shift", "copies", "windows"}.isdisjoint(kinds(found))
    found = check(real("mooc", 0))
    assert "wrong by 4.2% or more" in text(found, "float32")
    assert {"copies", "ties", "shift"}.isdisjoint(kinds(found))
    found = check(real("bpi13_incidents", 0))
    assert "15.34% of the gaps are zero" in text(found, "ties")
    assert kinds(found)["time grid"] == "warning"
    copies = [int(f.text.split()[0]) for f in found if f.kind == "copies"]
    assert sum(copies) == 17


def test_the_official_test_part_of_taobao_is_shifted_and_the_mixed_one_is_not() -> None:
    found = check(real("taobao", "official"))
    assert "0.197" in text(found, "shift")
    assert "gaps of test" in text(found, "shift")
    assert "shift" not in kinds(check(real("taobao", "cdiff")))
