"""Survival of surgery, steps on which it acted, oscillation: against loops over vectors."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from accord import conflict

VALUES = st.integers(-4, 4).map(float)


@given(hnp.arrays(np.float64, (3, 4), elements=VALUES), hnp.arrays(np.float64, (3, 3), elements=VALUES))
def test_survival_is_a_ratio_of_lengths(rows, coefficients):
    found = conflict.survival(rows @ rows.T, coefficients)
    there = [bool(v.any()) for v in rows]
    for i in range(3):
        if not there[i]:
            assert math.isnan(found[i])
            continue
        cut = sum(coefficients[i, j] * rows[j] for j in range(3) if there[j])
        np.testing.assert_allclose(found[i], np.linalg.norm(cut) / np.linalg.norm(rows[i]), rtol=1e-7, atol=1e-6)


def test_survival_by_block_shares_one_solve():
    rows = np.array([[[1.0, 0.0], [-1.0, 1.0]], [[2.0, 0.0], [1.0, 1.0]]])  # (B, K, P)
    gramians = np.stack([[r @ r.T for r in rows]] * 3)  # (T, B, K, K)
    coefficients = np.stack([np.array([[1.0, 0.5], [0.0, 1.0]])] * 3)  # (T, K, K)
    found = conflict.survival(gramians, coefficients[:, None])
    assert found.shape == (3, 2, 2)
    for b in range(2):
        cut = coefficients[0] @ rows[b]
        expected = np.linalg.norm(cut, axis=1) / np.linalg.norm(rows[b], axis=1)
        np.testing.assert_allclose(found[1, b], expected)


def test_identity_survives_whole_and_nothing_not_at_all():
    gramian = np.array([[2.0, -1.0], [-1.0, 3.0]])
    assert conflict.survival(gramian, np.eye(2)).tolist() == [1, 1]
    assert conflict.survival(gramian, np.zeros((2, 2))).tolist() == [0, 0]


def test_a_method_that_only_scales_does_not_intervene():
    assert conflict.intervened([[3.0, 3.0, 3.0]]).tolist() == [0]
    assert conflict.intervened([[3.0, 3.0, 0.0]], [[True, True, False]]).tolist() == [0]
    assert conflict.intervened([[3.0, 3.0, 0.0]]).tolist() == [1]
    assert np.isnan(conflict.intervened([[3.0, np.nan, np.nan]])).all()
    assert conflict.intervened([[1.0, -1.0]]).tolist() == [1]
    assert conflict.intervened([[0.0, 0.0]]).tolist() == [0]


@given(hnp.arrays(np.float64, (6, 2), elements=st.sampled_from([-1.0, 0.0, 1.0, math.nan])))
def test_oscillation_counts_flips_between_steps_with_a_sign(change):
    found = conflict.oscillation(change)
    for k in range(2):
        signs = [v for v in change[:, k] if v == 1 or v == -1]
        flips = [a != b for a, b in itertools.pairwise(signs)]
        assert found.defined[k] == len(flips)
        expected = math.nan if not flips else sum(flips) / len(flips)
        np.testing.assert_allclose(found.value[k], expected)


def test_oscillation_of_blocks_has_their_axis():
    change = np.random.default_rng(0).normal(size=(9, 3, 2))
    assert conflict.oscillation(change).value.shape == (3, 2)
