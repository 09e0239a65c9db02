"""Ranks over problems against scipy and the tables of Demšar 2006; what is refused, and in which words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from accord.bench.ranking import critical_difference, permuted, profiles, rank
from accord.errors import AccordError


def cells(table: np.ndarray) -> dict:
    """Two equal seeds of each cell."""
    return {f"p{i}": {f"m{j}": {0: value, 1: value} for j, value in enumerate(row)} for i, row in enumerate(table)}


@pytest.fixture
def table():
    made = np.round(np.random.default_rng(0).normal(size=(6, 5)), 1)
    made[2, 1] = made[2, 3]  # a tie
    return made


def test_friedman_is_scipys(table):
    found = rank(cells(table))
    expected = scipy_stats.friedmanchisquare(*table.T)
    assert (found.chi2, found.p_chi2) == pytest.approx((expected.statistic, expected.pvalue))
    count, many = table.shape
    f = (count - 1) * found.chi2 / (count * (many - 1) - found.chi2)
    assert found.f == pytest.approx(f)
    assert found.p_f == pytest.approx(scipy_stats.f.sf(f, many - 1, (many - 1) * (count - 1)))


def test_mean_ranks_are_averaged_over_problems(table):
    found = rank(cells(table))
    expected = np.mean([scipy_stats.rankdata(-row) for row in table], axis=0)
    assert dict(zip(found.methods, found.mean, strict=True)) == pytest.approx(
        {f"m{j}": mean for j, mean in enumerate(expected)}
    )
    assert list(found.mean) == sorted(found.mean)


@pytest.mark.parametrize(
    ("methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (10, 3.164)]
)
def test_the_critical_values_of_the_paper(methods, q):
    """Table 5 (a) of Demšar 2006, to its last digit (which is truncated in places)."""
    assert critical_difference(methods, 10) == pytest.approx(q * math.sqrt(methods * (methods + 1) / 60), abs=1.5e-3)


def test_groups_are_the_neighbours_within_the_critical_difference():
    found = rank(cells(np.tile([4.0, 3.0, 2.0, 1.0], (12, 1))))  # CD = 1.35
    assert 1 < found.critical < 2
    assert found.groups == (("m0", "m1"), ("m1", "m2"), ("m2", "m3"))
    assert found.f == math.inf
    assert found.p_f == 0


def test_only_complete_problems_count(table):
    made = cells(table)
    del made["p0"]["m1"]
    made["p1"]["m2"] = {0: 1.0}
    made["p2"]["m3"] = {7: 1.0, 8: 1.0}
    found = rank(made)
    assert found.problems == ("p3", "p4", "p5")
    assert found.missing == ("p0: m1 has no seeds", "p1: m2 has 1 seed", "p2: the methods have no common seeds")


def test_only_common_seeds_count():
    made = {p: {"a": {0: 1.0, 1: 1.0, 2: -99.0}, "b": {0: 0.0, 1: 0.0}} for p in ("x", "y")}
    assert rank(made).methods == ("a", "b")


def test_single_runs_are_never_ranked(table):
    single = {p: {m: {0: seeds[0]} for m, seeds in row.items()} for p, row in cells(table).items()}
    with pytest.raises(AccordError, match=r"found 0 problems .* single runs are never ranked; p0: m0 has 1 seed"):
        rank(single)
    with pytest.raises(AccordError, match="found 1 problem that all methods finished"):
        rank(cells(table[:1]))
    with pytest.raises(AccordError, match="found 1 methods to rank"):
        rank(cells(table[:, :1]))


def test_profiles_by_hand():
    values = {
        "error": {"a": 2.0, "b": 1.0, "c": math.nan},
        "accuracy": {"a": 0.8, "b": 0.4, "c": 0.6},
        "likelihood": {"a": -2.0, "b": -1.0, "c": -1.0},
        "zero": {"a": 0.0, "b": 1.0, "c": 1.0},
    }
    found = profiles(values, {"error": False, "accuracy": True, "likelihood": True, "zero": False})
    assert found.left_out == ("zero",)
    np.testing.assert_allclose(found.ratios, [[2, 1, math.inf], [1, 1.5, 1.25], [2, 1, 1]])
    corners, shares = found.curve("c")
    np.testing.assert_allclose(corners, [1, 1.25])
    np.testing.assert_allclose(shares, [1 / 3, 2 / 3])  # never 1: a result is missing


def test_few_problems_are_judged_by_all_orders():
    """Two methods, four problems, one order: the approximations call that certain, the exact test gives 2 / 2^4."""
    found = rank(cells(np.array([[1.0, 0.0]] * 4)))
    assert found.p_f == 0
    assert found.p == 0.125 == scipy_stats.binomtest(4, 4).pvalue


def test_drawn_orders_agree_with_all_orders(table, monkeypatch):
    ranks = np.stack([scipy_stats.rankdata(row) for row in table[:3, :4]])  # 24^2 choices
    exact = permuted(ranks)
    monkeypatch.setattr("accord.bench.ranking.DRAWN", 500)
    assert permuted(ranks) == pytest.approx(exact, abs=0.1)
    assert permuted(ranks) == permuted(ranks)
