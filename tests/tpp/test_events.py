"""Events: what is refused, what is derived, what subsets and scales keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Splits, split

sequences = st.lists(st.lists(st.floats(0, 1e6), min_size=1, max_size=6).map(sorted), min_size=1, max_size=6)


def test_gaps_and_tails_by_hand():
    events = Events.of([[1.0, 1.0, 4.0], [2.0], []], [[0, 1, 0], [1], []], start=[0.5, np.nan, 0.0], end=[5, np.nan, 2])
    assert events.gaps.tolist() == [0.5, 0.0, 3.0, 0.0]
    assert events.scored.tolist() == [True, True, True, False]
    assert events.tails.tolist() == [1.0, 0.0, 2.0]
    assert events.origin.tolist() == [0.5, 2.0, 0.0]
    assert events.sequence.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("times", "marks", "around", "message"),
    [
        ([[1.0, np.nan]], None, {}, "sequence 0, event 1 .* no finite number"),
        ([[1.0], [np.inf]], None, {}, "sequence 1, event 0 .* no finite number"),
        ([[2.0, 1.0]], None, {}, "sequence 0, event 1 .* lies before the one in front"),
        ([[1.0], [3.0, 2.5, 2.0]], None, {}, r"sequence 1, event 1 .* \(2 such events\)"),
        ([[1.0]], [[-1]], {}, "mark outside"),
        ([[1.0]], [[3]], {"names": ["a", "b"]}, "mark outside 0..1"),
        ([[1.0]], [[0.5]], {}, "not whole numbers"),
        ([[1.0]], [[0, 1]], {}, "two lists as long"),
        ([[1.0]], [], {}, "one of each"),
        ([[1.0]], None, {"start": 2.0}, "before the start"),
        ([[1.0]], None, {"end": 0.5}, "behind the end"),
        ([[1.0]], None, {"end": np.inf}, "window of sequence 0 is infinite"),
        ([[1.0], []], None, {}, "sequence 1 has no events and no known window"),
    ],
)
def test_bad_events_are_named(times, marks, around, message):
    with pytest.raises(TPPError, match=message):
        Events.of(times, marks, **around)


@pytest.mark.parametrize("offsets", [[0, 1], [1, 2], [0, 2, 1, 2], []])
def test_bad_offsets(offsets):
    with pytest.raises(TPPError, match="offsets"):
        Events(time=[1.0, 2.0], mark=[0, 0], offsets=offsets, marks=("a",))


@given(sequences)
def test_a_subset_has_the_events_of_its_sequences(times):
    events = Events.of(times, start=0.0)
    chosen = np.random.default_rng(len(times)).integers(0, len(times), 4)
    found = events.subset(chosen)
    for i, source in enumerate(chosen):
        assert found.time[found.offsets[i] : found.offsets[i + 1]].tolist() == times[source]


@given(sequences, st.floats(1e-3, 1e3))
def test_gaps_scale(times, factor):
    events = Events.of(times, tick=0.5)
    assert events.rescaled(factor).gaps == pytest.approx(events.gaps * factor, rel=1e-9, abs=1e-6 * factor)
    assert events.rescaled(factor).tick == 0.5 * factor
    assert events.rescaled(4.0).time.tolist() == (events.time * 4).tolist()


def test_gaps_are_taken_before_any_rounding():
    """Differences of Unix seconds would lose a minute in float32."""
    base = 1.6e9
    events = Events.of([[base, base + 1.0, base + 4.0]])
    assert events.gaps.tolist() == [0.0, 1.0, 3.0]


def test_fingerprints_tell_copies_from_others():
    one, other = [1.0, 2.0, 4.0], [1.0, 3.0, 4.0]
    prints = Events.of([one, one, other]).fingerprints()
    assert prints[0] == prints[1] != prints[2]
    assert Events.of([one], end=5.0).fingerprints() != prints[:1]
    assert Events.of([one], [[0, 0, 1]]).fingerprints() != Events.of([one], [[0, 1, 0]], names="ab").fingerprints()


def test_a_cut_is_a_partition():
    events = Events.of([[float(i), i + 1.0] for i in range(25)])
    parts = split(events, seed=3)
    found = np.concatenate([part.time[part.offsets[:-1]] for part in (parts.train, parts.validation, parts.test)])
    assert sorted(found) == list(range(25))
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [15, 5, 5]
    assert split(events, seed=3).train.time.tolist() == parts.train.time.tolist()
    assert split(events, seed=4).train.time.tolist() != parts.train.time.tolist()
    with pytest.raises(TPPError, match="cannot be cut"):
        split(Events.of([[1.0, 2.0]] * 2))


def test_parts_share_a_vocabulary():
    one, other = Events.of([[1.0]], names=["a"]), Events.of([[1.0]], names=["b"])
    with pytest.raises(TPPError, match="vocabularies"):
        Splits(one, one, other)
