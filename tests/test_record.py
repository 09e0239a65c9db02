"""The record: what is written comes back; damage is named; nothing is there twice."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import polars
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import AccordError
from accord.record import Record, Row, drop_after, files, next_number, parts, read, write_part
from accord.step import Event, Step

NAN = float("nan")


def make(index, tasks=("a", "b"), blocks=("body", "neck"), seed=None, dtype=torch.float64, **changes):
    random = torch.Generator().manual_seed(index if seed is None else seed)
    k, b = len(tasks), len(blocks)
    rows = torch.randn(b, k, 5, generator=random, dtype=dtype)
    values = {
        "losses": torch.randn(k, generator=random, dtype=dtype),
        "active": torch.ones(k, dtype=torch.bool),
        "weights": torch.rand(k, generator=random, dtype=dtype),
        "gramians": rows @ rows.mT,
        "descent": torch.randn(b, k, generator=random, dtype=dtype),
        "direction_norm": 1.5,
        "change": torch.randn(b, k, generator=random, dtype=dtype),
        "update_norm": 0.25,
        "events": (Event("nonfinite", f"task at step {index} dropped", tasks[0]), Event("scale", "changed")),
    }
    return Step(index, tuple(tasks), blocks=tuple(blocks), **(values | changes))


def bare(index, tasks=("a",)):
    """A step of a method without Gramian: losses only."""
    count = len(tasks)
    return Step(index, tuple(tasks), torch.arange(1.0, count + 1), torch.ones(count, dtype=torch.bool))


def rows_of(*steps):
    return [Row(step, time=0.5 * step.index, probe_seconds=0.1, step_seconds=None) for step in steps]


def assert_same(left, right):
    assert (left.tasks, left.blocks, left.space, left.events) == (right.tasks, right.blocks, right.space, right.events)
    for name in vars(left):
        if isinstance(getattr(left, name), np.ndarray):
            found, expected = getattr(left, name), getattr(right, name)
            assert found.dtype == expected.dtype, name
            np.testing.assert_array_equal(found, expected, err_msg=name)


# --- arrays


def test_of_keeps_every_value():
    step = make(4)
    record = Record.of([Row(step, 2.0, 0.1, 0.05)])
    assert (record.tasks, record.blocks, record.index.tolist()) == (("a", "b"), ("body", "neck"), [4])
    for name in ("losses", "active", "weights", "gramians", "descent", "change"):
        np.testing.assert_array_equal(getattr(record, name)[0], getattr(step, name).numpy())
    assert (record.time[0], record.probe_seconds[0], record.step_seconds[0]) == (2.0, 0.1, 0.05)
    assert (record.direction_norm[0], record.update_norm[0], record.space) == (1.5, 0.25, ("parameters",))
    assert record.events == [list(step.events)]
    np.testing.assert_array_equal(record.gramian[0], step.gramian.numpy())
    assert record.losses.dtype == record.gramians.dtype == np.float64
    assert record.active.dtype == bool


def test_what_was_not_measured_is_nan():
    record = Record.of([bare(0), make(1, ("a",))])
    for name in ("weights", "gramians", "descent", "change", "direction_norm", "update_norm"):
        assert np.isnan(getattr(record, name)[0]).all(), name
        assert not np.isnan(getattr(record, name)[1]).any(), name
    assert np.isnan(record.gramian[0]).all()
    assert np.isnan(record.time).all(), "a bare step has no time"


def test_a_record_without_any_gramian():
    record = Record.of([bare(0), bare(1)])
    assert record.gramians.shape == (2, 0, 1, 1)
    assert np.isnan(record.gramian).all()


def test_tasks_that_appear_later_are_padded_by_name():
    early = make(0, ("a", "c"))
    late = make(1, ("a", "b", "c"))  # the order of the last step counts
    record = Record.of([early, late])
    assert record.tasks == ("a", "b", "c")
    assert record.active.tolist() == [[True, False, True], [True, True, True]]
    np.testing.assert_array_equal(record.losses[0], [early.losses[0], NAN, early.losses[1]])
    np.testing.assert_array_equal(record.gramians[0][:, [0, 2]][:, :, [0, 2]], early.gramians)
    assert np.isnan(record.gramians[0][:, 1]).all()
    assert np.isnan(record.gramians[0][:, :, 1]).all()
    np.testing.assert_array_equal(record.descent[0][:, [0, 2]], early.descent)
    assert np.isnan(record.change[0][:, 1]).all()


def test_no_task_is_lost_when_the_last_step_lacks_it():
    assert Record.of([make(0, ("a", "b")), make(1, ("c", "a"))]).tasks == ("c", "a", "b")


def test_blocks_are_joined_and_missing_ones_add_nothing():
    fine, coarse = make(0, blocks=("body", "neck")), make(1, blocks=("total",))
    record = Record.of([fine, coarse])
    assert record.blocks == ("body", "neck", "total")
    np.testing.assert_array_equal(record.gramian[0], fine.gramian.numpy())
    np.testing.assert_array_equal(record.gramian[1], coarse.gramian.numpy())
    np.testing.assert_array_equal(record.descent.sum(1)[1], coarse.descent.sum(0).numpy())
    assert (record.gramians[1, :2] == 0).all()


def test_steps_are_sorted():
    assert Record.of([make(5), make(2), make(9)]).index.tolist() == [2, 5, 9]


def test_tensors_with_a_graph_and_other_types_are_read():
    losses = torch.ones(2, dtype=torch.bfloat16, requires_grad=True) * 2
    assert Record.of([make(0, losses=losses)]).losses.tolist() == [[2.0, 2.0]]


@pytest.mark.parametrize(("steps", "message"), [([], "at least one"), ([make(3), make(3, seed=1)], "step 3 is twice")])
def test_of_refuses(steps, message):
    with pytest.raises(AccordError, match=message):
        Record.of(steps)


def test_arrays_that_do_not_fit_their_names_are_refused(tmp_path):
    step = make(0, descent=torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"step 0: descent \(3, 2\), expected \(2, 2\)"):
        write_part(tmp_path, 0, rows_of(step))
    assert list(tmp_path.iterdir()) == []


# --- on disk


def test_round_trip_over_several_parts(tmp_path):
    steps = [
        make(0),
        make(1, weights=None, losses=torch.tensor([NAN, float("inf")]), active=torch.tensor([False, True])),
        make(2, change=None, update_norm=None, events=()),
        make(3, ("a", "b", "c"), ("body", "neck", "head"), space="features"),
        bare(4, ("a", "b", "c")),
        make(5, ("a", "b", "c"), dtype=torch.float32),
        make(6, ("a", "b"), ()),  # no block, but empty arrays
        make(7, ("a", "b", "c")),
    ]
    for number, at in enumerate(range(0, 8, 2)):
        path = write_part(tmp_path / "steps", number, rows_of(*steps[at : at + 2]))
        assert path == tmp_path / "steps" / f"part-{number:06d}.parquet"
    assert_same(read(tmp_path / "steps"), Record.of(rows_of(*steps)))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_round_trip_of_any_steps(tmp_path_factory, data):
    names = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3, unique=True)
    steps = []
    for index in range(data.draw(st.integers(1, 4))):
        measured = data.draw(st.booleans())
        blocks = data.draw(names) if measured else []
        missing = dict.fromkeys(("gramians", "descent", "change", "direction_norm"), None)
        steps.append(make(index, data.draw(names), blocks, **({} if measured else missing)))
    folder = tmp_path_factory.mktemp("record")
    for number, step in enumerate(steps):
        write_part(folder, number, rows_of(step))
    assert_same(read(folder), Record.of(rows_of(*steps)))


def test_parts_are_in_the_order_of_their_numbers(tmp_path):
    for number in (1000001, 3, 999999, 0):
        write_part(tmp_path, number, rows_of(make(number)))
    assert [int(path.stem.split("-")[1]) for path in parts(tmp_path)] == [0, 3, 999999, 1000001]
    assert next_number(tmp_path) == 1000002
    assert read(tmp_path).index.tolist() == [0, 3, 999999, 1000001]


def test_a_part_is_never_overwritten(tmp_path):
    write_part(tmp_path, 0, rows_of(make(0)))
    with pytest.raises(AccordError, match=r"part-000000.parquet exists already"):
        write_part(tmp_path, 0, rows_of(make(1)))
    assert read(tmp_path).index.tolist() == [0]


def test_no_rows_no_part(tmp_path):
    with pytest.raises(ValueError, match="no rows"):
        write_part(tmp_path, 0, [])


def test_columns_of_later_versions_are_passed_over(tmp_path):
    path = write_part(tmp_path, 0, rows_of(make(0)))
    polars.read_parquet(path).with_columns(later=polars.lit(1)).write_parquet(path)
    assert_same(read(tmp_path), Record.of(rows_of(make(0))))


# --- kill, resume, damage


def test_a_half_written_part_is_passed_over(tmp_path):
    path = write_part(tmp_path, 0, rows_of(make(0)))
    (tmp_path / "part-000001.parquet.tmp").write_bytes(path.read_bytes()[:100])
    assert read(tmp_path).index.tolist() == [0]
    drop_after(tmp_path, 5)
    write_part(tmp_path, 1, rows_of(make(1)))
    assert read(tmp_path).index.tolist() == [0, 1]


def test_a_kill_before_the_move_leaves_the_old_content(tmp_path, monkeypatch):
    write_part(tmp_path, 0, rows_of(make(0), make(1)))

    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_part(tmp_path, 1, rows_of(make(2)))
    with pytest.raises(KeyboardInterrupt):
        drop_after(tmp_path, 1)
    monkeypatch.undo()
    assert read(tmp_path).index.tolist() == [0, 1]
    drop_after(tmp_path, 1)
    assert read(tmp_path).index.tolist() == [0]


@pytest.mark.parametrize("first", range(8))
def test_drop_after_removes_exactly_the_later_rows(tmp_path, first):
    steps = [make(index) for index in range(7)]
    for number, at in enumerate((0, 3, 5)):
        write_part(tmp_path, number, rows_of(*steps[at : (3, 5, 7)[number]]))
    before = {path: path.stat().st_mtime_ns for path in parts(tmp_path)}
    drop_after(tmp_path, first)
    drop_after(tmp_path, first)  # a second time changes nothing
    if first == 0:
        assert parts(tmp_path) == []
        return
    assert_same(read(tmp_path), Record.of(rows_of(*steps[:first])))
    untouched = parts(tmp_path)[: sum(end <= first for end in (3, 5, 7))]
    assert all(path.stat().st_mtime_ns == before[path] for path in untouched)
    again = [make(index, seed=100) for index in range(first, 7)]
    if again:
        write_part(tmp_path, next_number(tmp_path), rows_of(*again))
    assert_same(read(tmp_path), Record.of(rows_of(*steps[:first], *again)))


def test_drop_after_of_nothing(tmp_path):
    drop_after(tmp_path / "missing", 0)
    assert not (tmp_path / "missing").exists()


def test_a_step_that_was_recorded_twice_is_said(tmp_path):
    write_part(tmp_path, 0, rows_of(make(0), make(1)))
    write_part(tmp_path, 1, rows_of(make(1), make(2)))
    with pytest.raises(AccordError, match="step 1 is twice in"):
        read(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "garbage", "half", "no footer", "middle"])
def test_a_damaged_part_is_named(tmp_path, damage):
    write_part(tmp_path, 0, rows_of(make(0)))
    path = write_part(tmp_path, 1, rows_of(*(make(index) for index in range(1, 50))))
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "garbage": b"this is not parquet" * 50,
            "half": whole[: len(whole) // 2],
            "no footer": whole[:-8],
            "middle": whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :],
        }[damage]
    )
    for action in (lambda: read(tmp_path), lambda: drop_after(tmp_path, 1)):
        with pytest.raises(AccordError, match=r"part-000001.parquet cannot be read") as caught:
            action()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("step", [0, 13, 26])
def test_any_flipped_byte_is_an_error_of_ours_or_read(tmp_path, step):
    """Whatever polars makes of a damaged file, panics included, the user gets a record or one AccordError."""
    path = write_part(tmp_path, 0, rows_of(make(0)))
    whole = path.read_bytes()
    outcomes = set()
    for at in range(step, len(whole), 39):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            outcomes.add(type(read(tmp_path)))
        except AccordError as error:
            outcomes.add("named" if path.name in str(error) else str(error))
    assert outcomes - {Record} == {"named"}


def test_a_panic_of_polars_is_an_error_of_ours(tmp_path, monkeypatch):
    """It happens with some damaged files and some versions, and is not an Exception."""
    write_part(tmp_path, 0, rows_of(make(0)))

    def panic(source):
        raise polars.exceptions.PanicException("assertion failed\nmore")

    monkeypatch.setattr(polars, "read_parquet", panic)
    with pytest.raises(AccordError, match=r"part-000000.parquet cannot be read: assertion failed; it is damaged"):
        read(tmp_path)


def test_a_foreign_parquet_file_is_named(tmp_path):
    polars.DataFrame({"index": [0]}).write_parquet(tmp_path / "part-000000.parquet")
    with pytest.raises(AccordError, match=r"part-000000.parquet is not a part of a record: missing.*time, tasks"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("losses", [[1.0, 2.0, 3.0]], r"step 0 has 3 values in losses, expected shape \(2,\)"),
        ("gramians", [[1.0]], r"step 0 has 1 values in gramians, expected shape \(2, 2, 2\)"),
        ("active", [[True, None]], "active has missing values"),
        ("index", [None], "no value in index"),
        ("tasks", [None], "no value in tasks"),
        ("losses", [None], "no value in losses"),
        ("events", [None], "no value in events"),
    ],
)
def test_values_that_do_not_fit_are_named(tmp_path, column, value, message):
    path = write_part(tmp_path, 0, rows_of(make(0)))
    frame = polars.read_parquet(path)
    frame.with_columns(polars.Series(column, value, dtype=frame.schema[column])).write_parquet(path)
    with pytest.raises(AccordError, match=rf"part-000000.parquet is not a part of a record: .*{message}"):
        read(tmp_path)


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(AccordError, match=r"has no part-\*.parquet files"):
        read(tmp_path)
    with pytest.raises(AccordError, match="does not exist"):
        read(tmp_path / "missing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_part_without_permission_is_named(tmp_path):
    write_part(tmp_path, 0, rows_of(make(0))).chmod(0)
    with pytest.raises(AccordError, match=r"part-000000.parquet cannot be read"):
        read(tmp_path)


def test_a_folder_in_place_of_a_part_is_named(tmp_path):
    (tmp_path / "part-000000.parquet").mkdir()
    with pytest.raises(AccordError, match=r"part-000000.parquet cannot be read"):
        read(tmp_path)


# --- polars is optional


def test_without_polars_only_files_fail(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    assert len(Record.of([make(0)])) == 1
    for action in (lambda: read(tmp_path), lambda: drop_after(tmp_path, 0), lambda: write_part(tmp_path, 0, [])):
        with pytest.raises(AccordError, match=r"pip install 'accord\[bench\]'"):
            action()


def test_polars_is_imported_lazily():
    code = "import sys, accord.record; sys.exit('polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
