"""Futures against what came: cuts, scores of sampled marks, and a model that knows against one that does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from accord.tpp.build import build
from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.long_horizon import _log_marks, cut, long_horizon
from accord.tpp.score import score
from accord.tpp.simulate import futures


def regular(count: int = 6) -> Events:
    return Events.of([np.arange(1.0, 21.0)] * count, [np.arange(20) % 2] * count, start=0.0, end=20.5, names="ab")


def test_a_cut_by_hand():
    events = Events.of([[1.0, 2.0, 3.0], [5.0]], start=[0.0, np.nan])
    past, future = cut(events, np.array([2.0, 5.0]), horizon=0.5)
    assert past.time.tolist() == [1.0, 2.0, 5.0]
    assert past.end.tolist() == [2.0, 5.0]
    assert future.lengths.tolist() == [0, 0]
    assert future.start.tolist() == [2.0, 5.0]
    assert cut(events, np.array([2.0, 5.0]), horizon=1.0)[1].time.tolist() == [3.0]


def test_past_and_future_are_the_whole():
    events = regular()
    past, future = cut(events, np.full(6, 7.3), horizon=100.0)
    assert sorted([*past.time, *future.time]) == sorted(events.time)


def test_sampled_marks_are_scored_by_their_own_past():
    torch.manual_seed(0)
    model = build("lnm+", 2).double()
    past = cut(regular(3), np.array([4.2, 9.0, 15.5]), 3.0)[0]
    (future,) = futures(model, past, 3.0, seed=1)
    found = _log_marks(model, past, future)
    assert found.shape == (future.time.size, 2)
    row = 0
    for i in range(3):
        a, b = past.offsets[i : i + 2]
        c, d = future.offsets[i : i + 2]
        times = [np.concatenate([past.time[a:b], future.time[c:d]])]
        alone = score(
            model, Events.of(times, [np.concatenate([past.mark[a:b], future.mark[c:d]])], start=0.0, names="ab")
        )
        assert torch.allclose(found[row : row + d - c], alone.log_marks[b - a :], rtol=1e-10)
        row += d - c


def test_a_better_model_has_better_futures():
    events = regular(12)
    slow, fast = build("poisson", 2), build("poisson", 2)
    with torch.no_grad():
        slow.decoder["shared"].log_rates.fill_(np.log(0.5))  # one event per unit of time, as there are
        fast.decoder["shared"].log_rates.fill_(np.log(5.0))
    good, bad = (long_horizon(model, events, 8.0, [0.5], draws=4) for model in (slow, fast))
    assert (good.transport.mean(0) < bad.transport.mean(0)).all()
    assert good.count_error < bad.count_error
    assert good.left_out == 0


def test_short_sequences_are_counted():
    events = Events.of([[1.0], [1.0, 2.0, 9.0]], start=0.0)
    assert long_horizon(build("poisson", 1), events, 3.0, [0.5]).left_out == 1
    with pytest.raises(TPPError, match="choose a shorter horizon"):
        long_horizon(build("poisson", 1), events, 50.0, [0.5])
