"""Batches: the packed layout against one token at a time, and the loader."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.tpp.batch import batches, collate, eligible
from accord.tpp.errors import TPPError
from accord.tpp.events import Events


def events_of(lengths: list[int], seed: int, known: bool) -> Events:
    rng = np.random.default_rng(seed)
    times = [np.cumsum(rng.exponential(size=n)) for n in lengths]
    marks = [rng.integers(0, 3, n) for n in lengths]
    end = [100.0 if n == 0 or rng.uniform() < 0.5 else np.nan for n in lengths]
    start = [0.0 if n == 0 or known else np.nan for n in lengths]
    return Events.of(times, marks, start=start, end=end, names="abc")


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=7), st.integers(0, 99), st.booleans(), st.booleans())
def test_every_token_against_a_loop(lengths, seed, known, first):
    events = events_of(lengths, seed, known)
    batch = collate(events, None, torch.float64, first=first)
    rows = {}  # (sequence of the batch, step) -> row
    row = 0
    for step, size in enumerate(batch.sizes):
        for rank in range(size):
            rows[rank, step] = row
            row += 1
    assert row == len(batch.mark) == len(lengths) + sum(lengths)
    scored = {}
    for rank, i in enumerate(batch.order.tolist()):
        a, b = events.offsets[i], events.offsets[i + 1]
        assert batch.gap[rows[rank, 0]] == 0
        for step, source in enumerate(range(a, b), 1):
            at = rows[rank, step]
            assert batch.mark[at] == events.mark[source]
            assert batch.gap[at] == events.gaps[source]
            assert batch.age[at] == pytest.approx(events.time[source] - events.origin[i])
            assert (batch.rank[at], batch.step[at]) == (rank, step)
            if (step > 1 or first) and events.scored[source]:
                scored[at] = (rows[rank, step - 1], source, rank)
        assert batch.last[rank] == rows[rank, b - a]
        assert batch.tail[rank] == events.tails[i]
    found = zip(batch.event.tolist(), batch.prev.tolist(), batch.source.tolist(), batch.sequence.tolist(), strict=True)
    assert {e: (p, s, r) for e, p, s, r in found} == scored
    assert batch.windowed == bool((events.tails > 0).any())


@pytest.mark.parametrize("train", [True, False])
def test_an_epoch_holds_every_eligible_sequence_once(train):
    events = events_of([1, 5, 2, 9, 0, 1, 3] * 9, 0, known=False)
    generator = np.random.default_rng(0) if train else None
    found = torch.cat([batch.order for batch in batches(events, 4, generator)])
    assert sorted(found.tolist()) == eligible(events).tolist()
    assert all(events.lengths[i] >= 2 for i in found.tolist())


def test_the_order_is_the_generators_alone():
    events = events_of(list(range(2, 40)), 0, known=True)

    def order(seed: int) -> list[list[int]]:
        return [batch.order.tolist() for batch in batches(events, 4, np.random.default_rng(seed))]

    assert order(0) == order(0) != order(1)


def test_batches_hold_sequences_of_similar_length():
    lengths = np.random.default_rng(0).geometric(0.02, 640)
    events = Events.of([np.arange(1.0, n + 1) for n in lengths], start=0.0)
    ours = sum(len(b) * len(b.sizes) for b in batches(events, 32, np.random.default_rng(0)))
    random = sum(32 * (part.max() + 1) for part in lengths.reshape(-1, 32))
    assert ours < 0.5 * random


def test_long_batches_are_cut():
    events = Events.of([np.arange(1.0, 101.0)] * 8, start=0.0)
    assert [len(batch) for batch in batches(events, 8, tokens=303)] == [3, 3, 2]
    assert [len(batch) for batch in batches(events, 8, tokens=5)] == [1] * 8, "never less than one sequence"


def test_dtype_and_device():
    batch = collate(Events.of([[1.0, 2.0]]), dtype=torch.float64)
    moved = batch.to("cpu", torch.float32)
    assert moved.gap.dtype == torch.float32
    assert moved.mark.dtype == torch.int64
    assert moved.sizes == batch.sizes


def test_mistakes():
    with pytest.raises(TPPError, match="at least one sequence"):
        collate(Events.of([[1.0]]), [])
    with pytest.raises(TPPError, match="size=0"):
        next(batches(Events.of([[1.0, 2.0]]), 0))
