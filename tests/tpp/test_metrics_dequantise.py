"""Dequantised events: same marks, times less than a tick later, sorted, and without the grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.metrics.dequantise import dequantise

TICK = 0.5


def recorded(seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    times = [np.sort(rng.integers(0, 20, size)) * TICK for size in (12, 0, 30, 1)]
    marks = [rng.integers(0, 5, len(t)) for t in times]
    return Events.of(times, marks, start=0.0, end=[9.5, 3.0, np.nan, 100.0], names="abcde", tick=TICK, unit="s")


def test_every_event_moves_by_less_than_a_tick_and_keeps_its_mark():
    before, after = recorded(), dequantise(recorded(), 3)
    assert after.offsets.tolist() == before.offsets.tolist()
    assert (after.unit, after.marks, after.tick) == ("s", before.marks, None)
    for a, b in zip(before.offsets[:-1], before.offsets[1:], strict=True):
        floored = np.floor(after.time[a:b] / TICK) * TICK
        # ties may change their order, so compare as sets of (time on the grid, mark)
        assert sorted(zip(floored, after.mark[a:b], strict=True)) == sorted(
            zip(before.time[a:b], before.mark[a:b], strict=True)
        )


def test_ties_disappear_and_change_places():
    events = Events.of([[1.0] * 50], [np.arange(50)], tick=1.0)
    found = dequantise(events, 0)
    assert (found.gaps[1:] > 0).all()
    assert found.mark.tolist() != list(range(50))


def test_a_window_grows_only_if_it_must():
    before = Events.of([[1.0, 2.0], [1.0], [1.0]], start=0.0, end=[2.0, 9.0, np.nan], tick=1.0)
    after = dequantise(before, 0)
    assert after.end[0] == after.time[1]
    assert after.end[1] == 9.0
    assert np.isnan(after.end[2])
    assert after.start.tolist() == [0, 0, 0]


def test_seed_decides():
    assert dequantise(recorded(), 1).time.tolist() == dequantise(recorded(), 1).time.tolist()
    assert dequantise(recorded(), 1).time.tolist() != dequantise(recorded(), 2).time.tolist()


def test_noise_is_uniform():
    found = dequantise(Events.of([np.arange(5000.0)], tick=1.0), 0)
    assert stats.kstest(found.time % 1, "uniform").pvalue > 1e-6


def test_without_a_tick_there_is_nothing_to_do():
    with pytest.raises(TPPError, match="tick is unknown"):
        dequantise(Events.of([[1.0]]), 0)
