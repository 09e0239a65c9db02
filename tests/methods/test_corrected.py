"""What surgery makes of each gradient: its sum is the method's direction, its rows keep the method's promise."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import accord
from accord import conflict
from accord.errors import AccordError

import inputs

# spelling and the preferences that the rows are added up with
METHODS = {
    "PCGrad()": None,
    "GradVac()": None,
    "GradOPS()": None,
    "AGEM(main=1)": None,
    "AGEM(main=0, when='always')": None,
    "Lexicographic()": None,
    "Lexicographic(ranks=(1, 0, 0))": None,
    "UPGrad()": (1 / 3, 1 / 3, 1 / 3),
    "UPGrad(pref=(1, 2, 5))": (1 / 8, 2 / 8, 5 / 8),
}


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("label", list(inputs.FULL_RANK))
def test_the_rows_add_up_to_the_weights(name, label):
    rows = inputs.FULL_RANK[label](3, 1).double()
    method = accord.parse(name)
    weights = copy.deepcopy(method)(rows @ rows.T, generator=draw()).numpy()
    coefficients = method.corrected(rows @ rows.T, generator=draw())
    shares = np.ones(3) if METHODS[name] is None else np.array(METHODS[name])
    np.testing.assert_allclose(shares @ coefficients, weights, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_changed_where_all_gradients_agree(name):
    if "GradVac" in name or "always" in name:
        pytest.skip("it also changes gradients that agree")
    rows = inputs.agreeing(3, 0).double()
    np.testing.assert_allclose(accord.parse(name).corrected(rows @ rows.T, generator=draw()), np.eye(3), atol=1e-9)


def test_pcgrad_with_vectors():
    rows = inputs.conflicting(2, 3).double().numpy()
    cut = [a - min(a @ b, 0) / (b @ b) * b for a, b in (rows, rows[::-1])]
    coefficients = accord.PCGrad().corrected(rows @ rows.T)
    np.testing.assert_allclose(coefficients @ rows, cut, rtol=1e-9, atol=1e-12)
    expected = [np.linalg.norm(v) / np.linalg.norm(g) for v, g in zip(cut, rows, strict=True)]
    np.testing.assert_allclose(conflict.survival(rows @ rows.T, coefficients), expected, rtol=1e-9)


@given(st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_projection_of_upgrad_serves_everybody_and_is_no_longer(seed):
    rows = inputs.gaussian(4, seed).double().numpy()
    coefficients = accord.UPGrad().corrected(rows @ rows.T)
    assert (rows @ (coefficients @ rows).T).min() > -1e-6
    left = conflict.survival(rows @ rows.T, coefficients)
    assert (left <= 1 + 1e-9).all()


def test_a_protected_task_survives_whole_and_its_opponent_not_at_all():
    """Part A of the study of surgery: one shared scalar at 0, (a - 1)^2 against (a + 1)^2."""
    gramian = np.array([[4.0, -4.0], [-4.0, 4.0]])
    for method in (accord.AGEM(main=1), accord.Lexicographic(ranks=(1, 0))):
        survived = conflict.survival(gramian, method.corrected(gramian))
        np.testing.assert_allclose(survived, [0, 1], atol=1e-4)


def test_gradvac_reads_its_targets_and_leaves_them():
    rows = inputs.conflicting(3, 0).double()
    method = accord.GradVac(beta=0.5)
    fresh = method.corrected(rows @ rows.T, generator=draw())
    method(rows @ rows.T, generator=draw())
    before = method.state_dict()["targets"].clone()
    later = method.corrected(rows @ rows.T, generator=draw())
    assert torch.equal(method.state_dict()["targets"], before)
    assert np.abs(fresh - later).max() > 1e-3
    weights = copy.deepcopy(method)(rows @ rows.T, generator=draw())
    np.testing.assert_allclose(later.sum(0), weights, rtol=1e-9)


def test_many_gramians_and_absent_tasks():
    rows = inputs.conflicting(3, 0).double().numpy()
    rows[2] = 0
    one = rows @ rows.T
    many = accord.UPGrad().corrected(np.stack([np.stack([one, 2 * one]), np.stack([one, one])]))
    assert many.shape == (2, 2, 3, 3)
    assert (many[..., 2, :] == 0).all()
    assert (many[..., 2] == 0).all()
    np.testing.assert_allclose(many[0, 1], many[0, 0])
    pair = accord.UPGrad().corrected(one[:2, :2])
    np.testing.assert_allclose(many[0, 0, :2, :2], pair)
    assert np.isnan(conflict.survival(one, many[0, 0])[2])


def test_who_corrects_nothing_says_so():
    for name in ("Sum()", "CAGrad()", "DualProj()"):
        with pytest.raises(AccordError, match="does not correct each gradient"):
            accord.parse(name).corrected(np.eye(2))
    with pytest.raises(AccordError, match="expected"):
        accord.PCGrad().corrected(np.ones(3))
