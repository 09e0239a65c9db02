"""Judging: three values, thresholds, too few seeds, undefined values, and how often it errs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.studies.judging import Test, above, agreed, all_of, any_of, below, equivalent, negated

YES, NO, OPEN = (Test(word, word[0]) for word in ("supported", "not supported", "inconclusive"))
numbers = st.lists(st.floats(-1e3, 1e3), min_size=5, max_size=12)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([1.0, 1.1, 0.9, 1.0, 1.0], "supported"),
        ([-1.0, -1.1, -0.9, -1.0, -1.0], "not supported"),
        ([1.0, -1.0, 0.5, -0.5, 0.1], "inconclusive"),
        ([1.0, 1.1, 0.9, 1.0], "inconclusive"),
        ([1.0, 1.1, 0.9, 1.0, 1.0, math.nan], "inconclusive"),
        ([], "inconclusive"),
    ],
)
def test_above(values, word):
    assert above("x", values, 0.0).word == word


def test_what_is_missing_is_said():
    assert "4 seeds, 5 are needed" in above("x", [1.0] * 4, 0.0).found
    assert "undefined for 1 of 6 seeds" in above("x", [1.0] * 5 + [math.nan], 0.0).found


@given(numbers, st.floats(-1e3, 1e3))
def test_below_mirrors_above(values, threshold):
    assert below("x", values, threshold).word == above("x", [-v for v in values], -threshold).word


@given(numbers, st.floats(0.1, 1e3))
def test_what_is_equivalent_is_neither_far_above_nor_far_below(values, margin):
    if equivalent("x", values, margin).word == "supported":
        assert above("x", values, margin).word == "not supported"
        assert below("x", values, -margin).word == "not supported"


def test_three_valued_logic():
    assert [all_of(YES, x).word for x in (YES, NO, OPEN)] == ["supported", "not supported", "inconclusive"]
    assert [any_of(NO, x).word for x in (YES, NO, OPEN)] == ["supported", "not supported", "inconclusive"]
    assert all_of(NO, OPEN).word == "not supported"
    assert any_of(YES, OPEN).word == "supported"
    assert [negated(x).word for x in (YES, NO, OPEN)] == ["not supported", "supported", "inconclusive"]
    for a in (YES, NO, OPEN):
        for b in (YES, NO, OPEN):
            assert negated(all_of(a, b)).word == any_of(negated(a), negated(b)).word  # De Morgan
    assert all_of(YES, NO).found == "s; n"


def test_sets_that_differ_decide_nothing():
    assert agreed(["supported", "supported"]) == "supported"
    assert agreed(["supported", "not supported"]) == "inconclusive"
    assert agreed([]) == "inconclusive"


def test_of_a_true_null_one_in_twenty_is_called_something():
    """Two-sided 5 % per set; both sets of five agree on a wrong word in about 2 * 0.025 ** 2 of the cases."""
    draws = np.random.default_rng(0).normal(size=(4000, 2, 5))
    words = [[above("x", five, 0.0).word for five in pair] for pair in draws[:1000]]
    once = np.mean([word != "inconclusive" for pair in words for word in pair])
    twice = np.mean([agreed(pair) != "inconclusive" for pair in words])
    assert 0.03 < once < 0.07
    assert twice < 0.006
