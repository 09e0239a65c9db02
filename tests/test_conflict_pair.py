"""CG, GMS and TPI of two tasks: by hand, against loops, and the published form with its threshold."""

from __future__ import annotations

import numpy as np
import pytest

from accord import conflict


def gramians(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    rows = np.stack([one, other], -2)  # (..., 2, P)
    return rows @ np.swapaxes(rows, -1, -2)


def test_a_known_angle():
    angle = np.deg2rad(120)
    found = conflict.pair_conflict(gramians(np.array([3.0, 0.0]), np.array([np.cos(angle), np.sin(angle)])))
    assert found.cosine == pytest.approx(-0.5)
    assert found.incidence == found.incidence_published == 1
    assert found.similarity == pytest.approx(2 * 3 / (9 + 1))
    assert found.priority == 1
    assert found.histogram.tolist() == [0, 0, 0, 1] + [0] * 11


def test_every_measure_against_a_loop():
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((2, 40, 5, 3)) * rng.uniform(0.1, 3, (2, 40, 5, 1))
    one[::7, 2] = 0
    found = conflict.pair_conflict(gramians(one, other))
    cos, gms, first = [], [], []
    for g, h in zip(one.reshape(-1, 3), other.reshape(-1, 3), strict=True):
        a, b = np.linalg.norm(g), np.linalg.norm(h)
        cos.append(g @ h / (a * b) if a and b else np.nan)
        gms.append(2 * a * b / (a * a + b * b))
        first.append(a > b)
    cos, gms, first = np.array(cos), np.array(gms), np.array(first)
    known, against = np.isfinite(cos), cos < 0
    assert (found.entries, found.undefined) == (200, int((~known).sum()))
    assert found.incidence == pytest.approx(against.sum() / known.sum())
    assert found.incidence_published == pytest.approx(against.sum() / 200)
    assert found.cosine == pytest.approx(np.nanmean(cos))
    assert found.similarity == pytest.approx(gms[against].mean())
    assert found.similarity_all == pytest.approx(gms[known].mean())
    assert found.priority == pytest.approx(first[against].mean())
    assert found.priority_all == pytest.approx(first[known].mean())
    assert found.histogram.sum() == known.sum()


def test_nothing_defined_is_nan_and_not_zero():
    found = conflict.pair_conflict(np.zeros((4, 2, 2)))
    assert found.undefined == 4
    assert np.isnan([found.incidence, found.cosine, found.similarity, found.priority]).all()
    assert found.incidence_published == 0


def test_another_number_of_tasks():
    with pytest.raises(ValueError, match="found 3 tasks"):
        conflict.pair_conflict(np.eye(3))


def test_evolution_is_a_sliding_mean():
    rng = np.random.default_rng(1)
    grams = gramians(*rng.standard_normal((2, 30, 4, 2)))
    cos = conflict.cosine(grams)[..., 0, 1]
    steps, means = conflict.evolution(grams, window=10, stride=5)
    assert steps.tolist() == [9, 14, 19, 24, 29]
    assert means == pytest.approx([cos[s - 9 : s + 1].mean() for s in steps])
    assert conflict.evolution(grams, window=100)[1] == pytest.approx([cos.mean()]), "a short run gives one value"


def test_the_published_threshold_is_absolute_and_leaves_other_measures_alone():
    one, other = [np.array([1e-7, 1.0])], [np.array([-1.0, 1e-8])]
    exact = conflict.pair_conflict(gramians(np.stack(one), np.stack(other)))
    published = conflict.pair_conflict(conflict.published_gramians(one, other))
    assert exact.incidence == 1
    assert published.incidence_published == 0, "the entries that conflict are below 1e-6"
    summed = conflict.published_gramians([1e3 * one[0]], [1e3 * other[0]])
    assert conflict.pair_conflict(summed).incidence_published == 1, "for losses summed over a batch they are not"
