"""Statistics over seeds against scipy and against hand calculation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from accord.bench.stats import Interval, delta_m, gain, interval, paired, verdict


def test_interval_is_that_of_the_t_test():
    values = np.random.default_rng(0).normal(size=5)
    found = interval(values)
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(values.mean())
    assert found.half == pytest.approx(found.high - found.mean)
    assert found.seeds == 5


def test_coverage():
    """95 of 100 intervals of three normal values hold the true mean (binomial: 0.95 ± 4 standard errors)."""
    rng, count = np.random.default_rng(1), 2000
    hits = sum((found := interval(rng.normal(size=3))).low <= 0 <= found.high for _ in range(count))
    assert abs(hits / count - 0.95) < 4 * math.sqrt(0.95 * 0.05 / count)


def test_few_values():
    assert interval([]).seeds == 0
    assert math.isnan(interval([]).mean)
    one = interval([2.0, math.nan])
    assert (one.mean, one.seeds) == (2.0, 1)
    assert math.isnan(one.low)
    assert interval([1.0, 1.0]) == Interval(1.0, 1.0, 1.0, 2)


def test_paired_differences_cancel_what_seeds_have_in_common():
    rng = np.random.default_rng(2)
    common = rng.normal(scale=100, size=4)
    reference = dict(enumerate(common))
    values = {seed: value + 1 + 0.01 * rng.normal() for seed, value in reference.items()}
    found = paired(values | {9: 1e9}, reference | {8: -1e9})
    assert found.seeds == 4
    assert found.mean == pytest.approx(1, abs=0.05)
    assert found.half < 0.1


def test_delta_m_by_hand():
    """(-1)^lower (M - S)/S: +10 % accuracy, error 2 -> 3 is -50 %; together -20 %."""
    found = delta_m({"a": 0.55, "b": 3.0}, {"a": 0.5, "b": 2.0}, {"a": True, "b": False})
    assert found == pytest.approx((0.1 - 0.5) / 2)


def test_delta_m_needs_every_baseline():
    assert math.isnan(delta_m({"a": 1.0, "b": 1.0}, {"a": 1.0}, {"a": True, "b": True}))


def test_gain_of_negative_and_zero_references():
    assert gain(-1.0, -2.0, True) == 0.5  # a higher log-likelihood is better, whatever its sign
    assert math.isnan(gain(1.0, 0.0, True))


@pytest.mark.parametrize(
    ("low", "high", "seeds", "word"),
    [
        (0.1, 0.2, 3, "better"),
        (-0.2, -0.1, 3, "worse"),
        (-0.1, 0.1, 3, "no difference beyond seed noise"),
        (0.0, 0.1, 3, "no difference beyond seed noise"),
        (math.nan, math.nan, 1, "not known from one seed"),
    ],
)
def test_verdict(low, high, seeds, word):
    assert verdict(Interval((low + high) / 2, low, high, seeds)) == word
