"""Fronts and hypervolumes against slow, obvious ones: comparing all pairs, inclusion and exclusion, counting cells."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from accord import pareto
from accord.errors import AccordError


def slow_front(points):
    def dominated(q):
        return any((p <= q).all() and (p < q).any() for p in points)

    return [not dominated(q) for q in points]


def inclusion_exclusion(points, reference):
    """The volume of a union of boxes from those of all intersections: 2^N terms."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for chosen in combinations(points, size):
            corner = np.max(chosen, axis=0)  # the intersection of boxes that share a corner is a box
            total -= (-1) ** size * np.prod(np.clip(reference - corner, 0, None))
    return total


def counted(points, reference):
    """For whole numbers: how many unit cells below the reference are dominated."""
    cells = np.indices([int(r) for r in reference]).reshape(len(reference), -1).T  # lower corners, from 0
    return sum(bool((points <= cell).all(axis=1).any()) for cell in cells)


def some(seed, n, m, *, whole=False):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (n, m)).astype(float) if whole else rng.random((n, m))


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("whole", [False, True], ids=["real", "ties"])
def test_front_is_what_comparing_all_pairs_gives(m, whole):
    for seed in range(20):
        points = some(seed, 12, m, whole=whole)
        assert pareto.front(points).tolist() == slow_front(points)


def test_front_keeps_equal_points_and_the_order():
    assert pareto.front([[1, 1], [2, 0], [1, 1], [2, 1]]).tolist() == [True, True, True, False]
    assert pareto.front(np.empty((0, 2))).tolist() == []
    assert pareto.front([]).tolist() == []
    assert pareto.front([[3.0, 4.0]]).tolist() == [True]


def test_front_follows_the_points():
    points = some(1, 15, 3, whole=True)
    order = np.random.default_rng(2).permutation(15)
    assert pareto.front(points[order]).tolist() == pareto.front(points)[order].tolist()
    assert pareto.front(points * [2.0, 3.0, 0.5] - 7.0).tolist() == pareto.front(points).tolist()
    assert pareto.front(np.exp(points)).tolist() == pareto.front(points).tolist()  # any increasing map


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_hypervolume_is_inclusion_and_exclusion(m):
    for seed in range(6):
        points, reference = some(seed, 8, m), np.linspace(0.7, 1.1, m)  # some points lie beyond
        expected = inclusion_exclusion(list(points), reference)
        assert pareto.hypervolume(points, reference) == pytest.approx(expected, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_hypervolume_counts_cells_also_with_ties(m):
    for seed in range(10):
        points = some(seed, 7, m, whole=True)
        reference = np.full(m, 4.0)
        assert pareto.hypervolume(points, reference) == counted(points, reference)


@pytest.mark.parametrize("m", [2, 3])
def test_hypervolume_is_about_what_random_points_say(m):
    points = some(3, 60, m)
    rng = np.random.default_rng(0)
    draws = rng.random((20000, m))
    share = np.mean([(points <= draw).all(axis=1).any() for draw in draws])
    assert pareto.hypervolume(points, np.ones(m)) == pytest.approx(share, abs=4 * 0.5 / np.sqrt(len(draws)))


@pytest.mark.parametrize("m", [2, 3, 4])
def test_laws_of_the_hypervolume(m):
    a, b, reference = some(4, 9, m), some(5, 9, m), np.ones(m)
    both, one = pareto.hypervolume(np.concatenate([a, b]), reference), pareto.hypervolume(a, reference)
    assert both >= max(one, pareto.hypervolume(b, reference)) - 1e-12  # a union has at least as much as each
    assert both <= one + pareto.hypervolume(b, reference) + 1e-12
    assert pareto.hypervolume(a - 0.01, reference) > one  # better points have more
    assert pareto.hypervolume(a, reference + 0.1) > one
    on = pareto.front(a)
    assert pareto.hypervolume(a[on], reference) == pytest.approx(one, rel=1e-13)  # the rest adds nothing
    factor, shift = np.linspace(0.5, 2.0, m), np.linspace(-3.0, 5.0, m)
    moved = pareto.hypervolume(a * factor + shift, reference * factor + shift)
    assert moved == pytest.approx(one * factor.prod(), rel=1e-12)
    order = np.random.default_rng(6).permutation(m)
    assert pareto.hypervolume(a[::-1][:, order], reference[order]) == pytest.approx(one, rel=1e-12)


def test_points_at_or_beyond_the_reference_add_nothing():
    inside = [[0.5, 0.5, 0.5]]
    beyond = [[1.0, 0.1, 0.1], [0.1, 2.0, 0.1], [5.0, 5.0, 5.0]]
    assert pareto.hypervolume(inside + beyond, (1, 1, 1)) == pareto.hypervolume(inside, (1, 1, 1)) == 0.125
    assert pareto.hypervolume(beyond, (1, 1, 1)) == 0.0
    assert pareto.hypervolume([], (1, 1)) == pareto.hypervolume(np.empty((0, 2)), (1, 1)) == 0.0


def test_many_points_on_a_line_have_its_area():
    x = np.linspace(0, 1, 2001)
    points = np.stack([x, 1 - x], axis=1)
    assert pareto.front(points).all()
    assert pareto.hypervolume(points, (1, 1)) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda: pareto.front([[1.0, np.nan]]), "point 0 is"),
        (lambda: pareto.front([[1.0, 2.0], [np.inf, 0.0]]), "point 1 is"),
        (lambda: pareto.front([1.0, 2.0]), r"shape \(2,\)"),
        (lambda: pareto.hypervolume([[np.nan, 1.0]], (1, 1)), "point 0"),
        (lambda: pareto.hypervolume([[1.0, 1.0]], (1, np.nan)), "reference point"),
        (lambda: pareto.hypervolume([[1.0, 1.0]], (1, 1, 1)), "2 objectives and the reference point 3"),
        (lambda: pareto.hypervolume([[1.0]], 3.0), "expected M finite numbers"),
    ],
)
def test_mistakes_are_named(call, found):
    with pytest.raises(AccordError, match=found):
        call()
