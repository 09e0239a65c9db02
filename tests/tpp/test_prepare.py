"""Recipes: against a slow version in plain Python, and the published counts."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Splits, split
from accord.tpp.parts import first_copies, join
from accord.tpp.prepare import RECIPES, prepare
from accord.tpp.readers import table


def real(name: str) -> Events:
    path = Path(os.environ.get("ACCORD_DATA", "/nowhere"), "tpp", f"{name}.parquet")
    if not path.is_file():
        pytest.skip(f"needs {path.name} in the folder ACCORD_DATA")
    pytest.importorskip("polars", reason="tables need polars")
    return table.read(path).parts["all"]


def messy(seed: int) -> Events:
    """Rare marks, events at time 0, short sequences and copies."""
    rng = np.random.default_rng(seed)
    times, marks = [], []
    for _ in range(40):
        length = rng.integers(1, 12)
        times.append(np.sort(rng.uniform(0, 20, length)) * rng.integers(0, 2, length).cumsum().clip(0, 1))
        marks.append(np.minimum(rng.geometric(0.25, length) - 1, 11))
    return Events.of([*times, *times[:5]], [*marks, *marks[:5]], names=list("abcdefghijkl"))


def slow(
    sequences: list[list[tuple[float, int]]], kept: list[int], factor: float | None
) -> list[list[tuple[float, int]]]:
    """Steps 1 to 4 of the published order, one event after the other; ``factor`` None: 10 / largest time."""
    number = {k: i for i, k in enumerate(kept)}
    sequences = [[(t, number[k]) for t, k in events if k in number and t != 0] for events in sequences]
    sequences = [events for events in sequences if len(events) >= 2]
    if factor is None:
        factor = 10 / max(t for events in sequences for t, _ in events)
    return [[(t * factor, k) for t, k in events] for events in sequences]


def lists(events: Events) -> list[list[tuple[float, int]]]:
    return [
        list(zip(events.time[a:b].tolist(), events.mark[a:b].tolist(), strict=True))
        for a, b in zip(events.offsets[:-1], events.offsets[1:], strict=True)
    ]


def frequent(sequences: list[list[tuple[float, int]]], top: int) -> list[int]:
    counts = Counter(k for events in sequences for _, k in events)
    return sorted(sorted(counts, key=lambda k: (-counts[k], k))[:top])


def without_copies(sequences: list[list[tuple[float, int]]]) -> list[list[tuple[float, int]]]:
    found: list[list[tuple[float, int]]] = []
    for events in sequences:
        if len(events) < 2 or events not in found:
            found.append(events)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_paper10_equals_the_published_order_done_slowly(seed: int) -> None:
    events = messy(seed)
    distinct = without_copies(lists(events))
    kept = frequent(distinct, 4)
    expected = slow(distinct, kept, None)
    parts, done = prepare(events, "paper10", marks=4, seed=seed)
    order = np.random.default_rng(seed).permutation(len(expected))
    a, b = int(0.6 * len(expected)), int(0.6 * len(expected)) + int(0.2 * len(expected))
    for part, chosen in zip((parts.train, parts.validation, parts.test), np.split(order, [a, b]), strict=True):
        assert lists(part) == [expected[i] for i in np.sort(chosen)]
    assert parts.train.marks == tuple(events.marks[k] for k in kept)
    assert done.copies == len(events) - len(distinct) > 0
    remaining = sum(map(len, expected))
    gone = done.other_marks + done.at_zero + done.short_events
    assert remaining == sum(map(len, distinct)) - gone
    assert len(expected) == len(distinct) - done.short


@pytest.mark.parametrize("seed", range(5))
def test_train_only_looks_at_train_alone(seed: int) -> None:
    distinct = messy(seed).subset(np.arange(40))
    whole = distinct.subset(np.flatnonzero(first_copies(distinct) == np.arange(40)))
    cut = split(whole, seed)
    kept = frequent(lists(cut.train), 4)
    factor = 10 / max(t for events in slow(lists(cut.train), kept, 1.0) for t, _ in events)
    parts, done = prepare(whole, "train_only", marks=4, seed=seed)
    assert done.factor == factor
    assert parts.train.time.max() == pytest.approx(10.0, rel=1e-15)
    for name in ("train", "validation", "test"):
        assert lists(getattr(parts, name)) == slow(lists(getattr(cut, name)), kept, factor)


def test_a_change_in_the_test_part_changes_nothing_in_train() -> None:
    cut = split(messy(0).subset(np.arange(40)))
    far = Events(cut.test.time * 7, cut.test.mark * 0 + 11, cut.test.offsets, cut.test.marks)
    one, _ = prepare(cut, "train_only", marks=12)
    two, done = prepare(Splits(cut.train, cut.validation, join([far, cut.test])), "train_only", marks=12)
    assert one.train.fingerprints() == two.train.fingerprints()
    assert done.sequences == 40 + len(far)


def test_given_parts_stay_and_the_copy_in_train_wins() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (Events.of(list(np.sort(rng.uniform(1, 9, (n, 4))))) for n in (5, 3, 4))
    parts, done = prepare(Splits(a, join([b, a.subset([2])]), join([c, b.subset([0, 1])])), "mean_gap")
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [5, 3, 4]
    assert done.copies == 3


def test_the_published_github_set() -> None:
    events = real("github")
    parts, done = prepare(events, "paper10")
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [103, 34, 36]
    assert sum(p.time.size for p in (parts.train, parts.validation, parts.test)) == 20_657
    assert len(parts.train.marks) == 8
    assert max(p.time.max() for p in (parts.train, parts.validation, parts.test)) == pytest.approx(10.0)
    assert done.tick == 1.0
    # The window begins at midnight of 1 January 2013, US Pacific time: it now begins one second after 0.
    assert done.offset == 1_357_027_199.0
    assert parts.train.start == pytest.approx(parts.train.tick)


def test_gaps_of_unix_seconds_survive_to_float64() -> None:
    events = real("github")
    parts, done = prepare(events, "mean_gap")
    found = np.sort(np.concatenate([p.gaps for p in (parts.train, parts.validation, parts.test)])) / done.factor
    assert np.abs(found - np.sort(events.gaps)).max() < 1e-6
    assert parts.train.gaps.mean() == pytest.approx(1.0)


@pytest.mark.parametrize(("name", "copies", "short"), [("bpi12_w", 0, 2189), ("bpi13_incidents", 17, 1)])
def test_counts_of_the_process_logs(name: str, copies: int, short: int) -> None:
    _, done = prepare(real(name), "paper10")
    assert (done.copies, done.short) == (copies, short)


@pytest.mark.parametrize("name", ["mooc", "lastfm", "stackoverflow"])
def test_sets_that_are_prepared_already_stay_as_they_are(name: str) -> None:
    events = real(name)
    parts, done = prepare(events, "paper10")
    assert (done.copies, done.other_marks, done.at_zero, done.short, done.offset, done.factor) == (0, 0, 0, 0, 0.0, 1.0)
    assert parts.test.unit == events.unit
    assert sum(p.time.size for p in (parts.train, parts.validation, parts.test)) == events.time.size


def test_an_event_at_zero_that_is_left_out_still_starts_the_observation() -> None:
    events = Events.of([[0.0, 1.0 + i, 5.0 + i] for i in range(10)])
    parts, done = prepare(events, "paper10")
    assert done.at_zero == 10
    assert parts.train.scored.all()
    assert (parts.train.start == 0).all()
    assert parts.train.time.size == 12


@pytest.mark.parametrize("offset", [1.4e9, -500.0])
def test_times_far_from_zero_begin_one_tick_after_it(offset: float) -> None:
    rng = np.random.default_rng(0)
    near = Events.of([np.sort(rng.integers(0, 900, 20)).astype(float) for _ in range(20)])
    far = Events(near.time + offset, near.mark, near.offsets, near.marks)
    parts, done = prepare(far, "paper10")
    assert done.tick == 1.0
    assert done.offset == far.time.min() - 1
    assert done.at_zero == 0
    again, _ = prepare(Events(near.time - near.time.min() + 1, near.mark, near.offsets, near.marks), "paper10")
    assert np.array_equal(parts.train.time, again.train.time)


def test_none_only_cuts() -> None:
    events = messy(0)
    parts, done = prepare(events, "none", seed=3)
    expected = split(events, 3)
    for name in ("train", "validation", "test"):
        assert lists(getattr(parts, name)) == lists(getattr(expected, name))
    assert (done.copies, done.factor, done.offset) == (0, 1.0, 0.0)
    assert prepare(expected, "none")[0] is expected


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("whole", [True, False])
def test_the_origin_of_every_sequence_is_told(recipe: str, whole: bool) -> None:
    data = messy(1)
    given = data if whole else split(data, 1)
    parts, done = prepare(given, recipe, seed=2)
    source = data if whole else join(list(vars(given).values()))
    rows = dict(enumerate(lists(source)))
    assert len(set(np.concatenate(done.origin).tolist())) == sum(map(len, vars(parts).values()))
    for part, origin in zip(vars(parts).values(), done.origin, strict=True):
        for i, row in zip(origin.tolist(), lists(part), strict=True):
            moved = {((t - done.offset) * done.factor, source.marks[k]) for t, k in rows[i]}
            assert {(t, part.marks[k]) for t, k in row} <= moved


@pytest.mark.parametrize("recipe", RECIPES)
def test_windows_and_tick_are_moved_and_scaled_with_the_times(recipe: str) -> None:
    rng = np.random.default_rng(1)
    times = [1e6 + np.sort(rng.integers(1, 500, 15)).astype(float) for _ in range(30)]
    parts, done = prepare(Events.of(times, start=1e6, end=1e6 + 600.0), recipe)
    width = parts.train.end - parts.train.start
    assert width == pytest.approx(600.0 * done.factor)
    assert (parts.train.tails + np.add.reduceat(parts.train.gaps, parts.train.offsets[:-1])) == pytest.approx(width)
    if recipe != "none":
        assert parts.train.tick == pytest.approx(done.factor)


def test_equal_gaps_elsewhere_and_single_events_are_no_copies() -> None:
    events = Events.of([[1.0, 2.0], [11.0, 12.0], [4.0], [4.0], [1.0, 2.0]], [[0, 1], [0, 1], [0], [0], [0, 0]])
    assert first_copies(events).tolist() == [0, 1, 2, 3, 4]


def test_mistakes() -> None:
    events = messy(0)
    with pytest.raises(TPPError, match="unknown recipe 'paper'. Did you mean 'paper10'"):
        prepare(events, "paper")
    with pytest.raises(TPPError, match="marks=0; expected at least 1"):
        prepare(events, marks=0)
    with pytest.raises(TPPError, match="2 / 0 / 1 sequences remain"):
        prepare(Splits(*(Events.of(t) for t in ([[1.0, 2.0], [1.0, 3.0]], [[4.0]], [[1.0, 4.0]]))), "train_only")
    with pytest.raises(TPPError, match="different marks or units"):
        join([Events.of([[1.0]]), Events.of([[1.0]], unit="hour")])
    with pytest.raises(TPPError, match=r"cannot be cut into three parts.* \(8 of 10 are copies of another\)"):
        prepare(Events.of([[1.0, 2.0]] * 9 + [[1.0, 3.0]]), "mean_gap")
    with pytest.raises(TPPError, match="no gap to scale times by"):
        prepare(Events.of([[1.0]] * 10), "mean_gap")
