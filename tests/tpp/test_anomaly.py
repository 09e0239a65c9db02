"""Anomaly scores by hand, and their distribution where the model is the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from accord.tpp.anomaly import anomalies
from accord.tpp.build import build
from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.model import PointProcess
from accord.tpp.simulate import simulate


def poisson(rate: float = 1.0, marks: int = 1) -> PointProcess:
    """Of rate ``rate`` for each mark."""
    model = build("poisson", marks).double()
    with torch.no_grad():
        model.time_part.log_rates.fill_(math.log(rate))
    return model.eval()


def test_by_hand():
    events = Events.of([[1.0, 1.5], [9.0], [0.5]], [[0, 1], [1], [0]], start=[0.0, 0.0, np.nan], end=[2.0, 9.0, np.nan])
    found = anomalies(poisson(0.5, 2), events)  # total rate 1: compensators are times
    assert found.index.tolist() == [0, 1, 2]
    assert found.sequences.tolist() == [0, 1]
    np.testing.assert_allclose(found.time, [1.0, 0.5, 9.0])
    np.testing.assert_allclose(found.mark, math.log(2))
    np.testing.assert_allclose(found.tail, [2 * math.exp(-1), 2 * (1 - math.exp(-0.5)), 2 * math.exp(-9)])
    assert found.late.tolist() == [True, False, True]
    np.testing.assert_allclose(found.surprise, [(2.0 + 2 * math.log(2)) / 2, 9.0 + math.log(2)])
    np.testing.assert_allclose(found.spacing, [(1 + 0.25 + 0.25) / 2, 9.0])


def test_statistic_of_a_poisson_process():
    end, count = 20.0, 3000
    events = simulate(poisson(), count, end, seed=3)
    found = anomalies(poisson(), events)
    expected = 2 * (end - 1 + math.exp(-end)) / end
    error = found.spacing.std() / math.sqrt(count)
    assert abs(found.spacing.mean() - expected) < 4.5 * error
    assert abs(np.sort(found.tail)[found.tail.size // 2] - 0.5) < 4.5 * 0.5 / math.sqrt(found.tail.size)


def test_clusters_silence_and_regularity():
    regular = np.arange(1, 40) / 2.0
    clusters = np.sort(np.concatenate([np.arange(10) * 0.01 + k for k in (2.0, 9.0, 15.0)]))
    normal = simulate(poisson(), 200, 20.0, seed=1)
    usual = anomalies(poisson(), normal).spacing
    strange = anomalies(poisson(), Events.of([regular, clusters, [10.0]], start=0.0, end=20.0)).spacing
    assert strange[0] < np.quantile(usual, 0.01)
    assert (strange[1:] > np.quantile(usual, 0.99)).all()


def test_a_wrong_model_and_extreme_gaps():
    events = simulate(poisson(), 50, 20.0, seed=2)
    right, wrong = anomalies(poisson(), events), anomalies(poisson(3.0), events)
    assert right.surprise.mean() < wrong.surprise.mean()
    extreme = anomalies(poisson(1e200), Events.of([[1e300]], start=0.0, end=2e300))
    assert extreme.spacing.tolist() == [np.inf]
    assert extreme.tail.tolist() == [0.0]
    nothing = anomalies(poisson(1e-320), Events.of([[0.0]], start=0.0))  # no time, no hazard
    assert nothing.spacing.tolist() == [0.0]


def test_mistakes_are_refused():
    with pytest.raises(TPPError, match="no event can be scored"):
        anomalies(poisson(), Events.of([[1.0]]))
    with pytest.raises(TPPError, match="marks"):
        anomalies(poisson(), Events.of([[1.0, 2.0]], [[0, 1]]))
