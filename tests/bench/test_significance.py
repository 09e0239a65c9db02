"""Tests, corrections and powers against scipy, against enumeration, and against simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from accord.bench import significance as s

D = np.random.default_rng(3).normal(0.4, size=7)


def test_paired_t_is_scipys():
    assert s.paired_t(D) == pytest.approx(scipy_stats.ttest_1samp(D, 0).pvalue)
    assert s.paired_t([*D, math.nan]) == pytest.approx(s.paired_t(D))
    assert math.isnan(s.paired_t([1.0]))
    assert (s.paired_t([1.0, 1.0]), s.paired_t([0.0, 0.0])) == (0.0, 1.0)


def test_sign_flip_tries_every_sign():
    found = [abs(sum(sign * d for sign, d in zip(signs, D, strict=True)))
             for signs in itertools.product((1, -1), repeat=len(D))]  # fmt: skip
    assert s.sign_flip(D) == pytest.approx(np.mean(np.array(found) >= abs(D.sum()) - 1e-12))


def test_three_seeds_can_never_reject_by_signs():
    assert s.sign_flip([5.0, 6.0, 7.0]) == 0.25 == s.smallest_p(3)
    assert s.sign_flip(np.full(6, 2.0)) == s.smallest_p(6) < 0.05 < s.smallest_p(5)


def test_many_seeds_are_drawn_instead():
    d = np.random.default_rng(4).normal(0.3, size=40)
    assert s.sign_flip(d) == s.sign_flip(d)
    assert s.sign_flip(d) == pytest.approx(s.paired_t(d), abs=0.02)


def test_wilcoxon_is_scipys_exact_test():
    expected = scipy_stats.wilcoxon(D, method="exact").pvalue
    assert s.wilcoxon(D) == pytest.approx(expected)
    assert s.wilcoxon([0.0, 0.0]) == 1.0
    assert s.wilcoxon([0.0, *D]) == s.wilcoxon(D)


def test_midranks_are_scipys():
    values = np.array([3.0, 1.0, 3.0, 2.0, 1.0, 1.0])
    np.testing.assert_array_equal(s.midranks(values), scipy_stats.rankdata(values))


def test_holm_by_hand():
    assert s.holm({"a": 0.04, "b": 0.01, "c": math.nan, "d": 0.03}) == pytest.approx({"a": 0.06, "b": 0.03, "d": 0.06})
    assert s.holm({"a": 0.9, "b": 0.8})["a"] == 1.0


def test_holm_keeps_the_chance_of_any_false_alarm():
    """Ten true null hypotheses: some p' < 0.05 in at most 5 % of the tries (binomial, four standard errors)."""
    rng, tries = np.random.default_rng(5), 2000
    alarms = sum(min(s.holm(dict(enumerate(rng.uniform(size=10)))).values()) < 0.05 for _ in range(tries))
    assert alarms / tries < 0.05 + 4 * math.sqrt(0.05 * 0.95 / tries)


def test_effect_is_unbiased():
    """Without the correction three seeds overstate an effect of 1 by 77 %."""
    rng = np.random.default_rng(6)
    found = [s.effect(rng.normal(1.0, size=6)) for _ in range(4000)]
    assert np.mean(found) == pytest.approx(1.0, abs=4 * np.std(found) / math.sqrt(len(found)))
    assert math.isnan(s.effect([1.0, 2.0]))


def test_power_by_simulation():
    rng, tries = np.random.default_rng(7), 4000
    found = np.mean([s.paired_t(rng.normal(1.2, size=5)) < 0.05 for _ in range(tries)])
    assert s.power(1.2, 5) == pytest.approx(found, abs=4 * math.sqrt(0.25 / tries))


def test_detectable_and_needed_turn_each_other_round():
    for count in (3, 5, 10):
        size = s.detectable(2.0, count)
        assert s.power(size / 2.0, count) == pytest.approx(0.8)
        assert s.seeds_needed(size * 1.0001, 2.0) == count
    assert math.isnan(s.detectable(1.0, 1))
    assert s.detectable(1.0, 3, level=0.99) > s.detectable(1.0, 3)
    assert s.seeds_needed(1e-9, 1.0) == math.inf


def test_pooled_of_two_problems_is_welchs_test():
    """The mean of x and -y over two problems is half their difference."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(1.0, size=4), rng.normal(0.2, 3.0, size=6)
    expected = scipy_stats.ttest_ind(x, y, equal_var=False)
    found = s.pooled([x, -y, [9.0]])  # a single seed says nothing
    assert found.p == pytest.approx(expected.pvalue)
    ends = expected.confidence_interval()
    assert (2 * found.interval.low, 2 * found.interval.high) == pytest.approx((ends.low, ends.high))
    assert found.interval.seeds == 10
    assert s.pooled([[1.0], []]).interval.seeds == 0


def test_spearman():
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=30), rng.normal(size=30)
    expected = scipy_stats.spearmanr(x, y)
    found = s.spearman(x, y)
    assert (found.rho, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.low < found.rho < found.high
    few = s.spearman([1, 2, 3, 4], [4, 3, 2, 1])
    assert few.rho == -1
    assert few.p == pytest.approx(2 / 24)
    assert few.high > 0, "four pairs cannot even tell the sign"
    assert math.isnan(s.spearman([1, 2, 3], [1, 1, 1]).rho)
    assert s.spearman([1, 2, math.nan], [1, 2, 3]).pairs == 2
