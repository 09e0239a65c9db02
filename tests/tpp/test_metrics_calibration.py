"""Calibration against loops and scipy; true models are calibrated within what chance allows."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from accord.tpp.errors import TPPError
from accord.tpp.metrics.calibration import kolmogorov_smirnov, mark_reliability, quantiles, time_reliability


def exponential(count: int, seed: int = 0) -> Tensor:
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return -torch.log1p(-uniform)


def test_time_reliability_is_a_loop_over_the_grid():
    compensator = exponential(300) * 1.7
    compensator[0], compensator[1] = 0.0, 80.0  # F is 0 and, in float64, exactly 1
    u = (1 - (-compensator).exp()).tolist()
    found = time_reliability(compensator)
    shares = [sum(value <= j / 50 for value in u) / 300 for j in range(1, 51)]
    assert found.share.tolist() == pytest.approx(shares, abs=1e-12)
    assert found.share[-1] == 1
    assert found.pce == pytest.approx(sum(abs(s - j / 50) for j, s in enumerate(shares, 1)) / 50, abs=1e-12)
    assert found.count == 300


def test_true_model_has_small_time_errors():
    n = 20_000
    compensator = exponential(n)
    # E|share - b| <= 1 / (2 sqrt n) at each level; 6 times that for their mean is far beyond chance
    assert time_reliability(compensator).pce < 3 / math.sqrt(n)
    assert kolmogorov_smirnov(compensator).distance < 3 / math.sqrt(n)  # P(K > 3) = 3e-8
    assert time_reliability(2 * compensator).pce > 0.1
    assert kolmogorov_smirnov(2 * compensator).p_value < 1e-12


@pytest.mark.parametrize(("count", "factor"), [(1, 1.0), (7, 1.0), (50, 1.5), (400, 1.05), (3000, 1.0)])
def test_kolmogorov_smirnov_against_scipy(count, factor):
    compensator = exponential(count, seed=count) * factor
    found = kolmogorov_smirnov(compensator)
    expected = stats.kstest(compensator.numpy(), "expon", mode="asymp")
    assert found.distance == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(stats.kstwobign.sf(found.distance * math.sqrt(count)), abs=1e-12)


def test_quantiles_are_exact_order_statistics():
    compensator = exponential(1000)
    found = quantiles(compensator, points=50)
    assert found.observed.tolist() == [sorted(compensator.tolist())[round(1 + i * 999 / 49) - 1] for i in range(50)]
    for position, rank in ((0, 1), (49, 1000)):
        law = stats.beta(rank, 1001 - rank)
        for name, p in (("low", 0.025), ("expected", 0.5), ("high", 0.975)):
            value = getattr(found, name)[position].item()
            assert value == pytest.approx(-math.log1p(-law.ppf(p)), rel=1e-9)


def test_band_holds_its_share_of_true_models():
    """Each point is inside with probability 0.95; over 400 draws its share has a deviation of 0.011."""
    inside = []
    for seed in range(400):
        found = quantiles(exponential(40, seed=seed), points=8)
        inside.append((found.low <= found.observed) & (found.observed <= found.high))
    share = torch.stack(inside).double().mean(0)  # (8,)
    assert (share - 0.95).abs().max() < 5 * 0.011


def test_fewer_events_than_points():
    assert len(quantiles(exponential(3)).observed) == 3
    assert quantiles(exponential(1)).expected.item() == pytest.approx(math.log(2))


def test_mark_reliability_is_a_loop_over_bins():
    generator = torch.Generator().manual_seed(0)
    log_p = (2 * torch.randn(500, 4, generator=generator, dtype=torch.float64)).log_softmax(1)
    log_p[0] = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64).log()  # on an edge: belongs to (0.4, 0.5]
    log_p[1] = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64).log()
    marks = torch.randint(0, 4, (500,), generator=generator)
    found = mark_reliability(log_p, marks)
    corrected = published = 0.0
    for b in range(10):
        rows = [i for i in range(500) if b / 10 < log_p[i].exp().max() <= (b + 1) / 10]
        assert found.count[b] == len(rows)
        confidence = sum(log_p[i].exp().max().item() for i in rows)
        hits = sum(int(log_p[i].argmax() == marks[i]) for i in rows)
        if rows:
            assert found.accuracy[b] == pytest.approx(hits / len(rows), abs=1e-12)
            corrected += abs(hits - confidence) / 500
        published += abs((hits / len(rows) if rows else 0) - (b + 0.5) / 10) / 10
    assert found.count[0] == 0  # with 4 marks the largest is at least 1/4, so there are empty bins
    assert found.ece == pytest.approx(corrected, abs=1e-12)
    assert found.ece_published == pytest.approx(published, abs=1e-12)


def test_true_model_has_small_mark_errors():
    generator = torch.Generator().manual_seed(0)
    n = 20_000
    log_p = (3 * torch.randn(n, 5, generator=generator, dtype=torch.float64)).log_softmax(1)
    marks = torch.multinomial(log_p.exp(), 1, generator=generator).squeeze(1)
    found = mark_reliability(log_p, marks)
    # E|accuracy - confidence| of a bin is at most 1/(2 sqrt n_b), so E ece <= sqrt(10)/(2 sqrt n); doubled for chance
    assert found.ece < math.sqrt(10 / n)
    assert mark_reliability((log_p * 3).log_softmax(1), marks).ece > 0.05


def test_published_ece_of_a_true_model_is_far_from_zero():
    log_p = torch.full((1000, 50), 1 / 50, dtype=torch.float64).log()
    marks = torch.arange(1000) % 50
    found = mark_reliability(log_p, marks)
    assert found.ece == pytest.approx(0, abs=1e-12)
    assert found.ece_published > 0.45


@pytest.mark.parametrize("measure", [time_reliability, kolmogorov_smirnov, quantiles])
def test_refusals(measure):
    with pytest.raises(TPPError, match="1 of 2 compensators are NaN"):
        measure(torch.tensor([1.0, torch.nan]))
    with pytest.raises(TPPError, match="n > 0"):
        measure(torch.empty(0))
