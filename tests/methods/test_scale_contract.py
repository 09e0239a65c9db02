"""The scale contract: the table of the specification, and the lengths that it promises."""

from __future__ import annotations

import numpy as np
import pytest

from accord.errors import AccordError
from accord.methods import METHODS, Weighting
from accord.scale import factor, rescale

import inputs

TABLE = [
    ("sum", "sum", 1.0),
    ("sum", "mean", 0.25),
    ("mean", "sum", 4.0),
    ("mean", "mean", 1.0),
    ("objective", "sum", 1.0),
    ("objective", "mean", 1.0),
    ("objective", "match-norm", 1.0),
]


@pytest.mark.parametrize(("native", "scale", "expected"), TABLE)
@pytest.mark.parametrize("known", [True, False])
def test_table(native, scale, expected, known):
    """With or without the Gramian at hand."""
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    found, message = rescale(weights, np.eye(4) if known else None, scale, native)
    assert found.tolist() == pytest.approx((expected * weights).tolist())
    assert factor(scale, native, 4) == expected
    assert message is None


@pytest.mark.parametrize("native", ["sum", "mean", "unit-free", "objective"])
def test_native_is_untouched(native):
    weights = np.array([0.1, 0.2])
    assert rescale(weights, np.eye(2), "native", native)[0].tolist() == weights.tolist()
    assert factor("native", native, 2) == 1


@pytest.mark.parametrize("k", [2, 5])
def test_unit_free_gets_the_length_of_the_sum_seen_from_d(k):
    """``‖d‖ = Σ g_i·d/‖d‖``, whatever length the native weights had; for "mean" a K-th of it."""
    rows = inputs.conflicting(k, 0).numpy()
    gramian = rows @ rows.T
    for length in (1e-3, 1e3):
        weights = length * np.arange(1.0, k + 1)
        for scale, share in (("sum", 1), ("mean", 1 / k)):
            d = rescale(weights, gramian, scale, "unit-free")[0] @ rows
            assert np.linalg.norm(d) == pytest.approx(share * (rows @ d).sum() / np.linalg.norm(d))


@pytest.mark.parametrize("build", [inputs.parallel, inputs.orthogonal])
def test_unit_free_equals_the_sum_where_it_should(build):
    """For parallel rows and equal weights on unit rows, or for orthogonal rows, λ gives the length of the sum."""
    rows = build(3, 0).numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    d = rescale(np.full(3, 0.01), rows @ rows.T, "sum", "unit-free")[0] @ rows
    assert np.allclose(d, rows.sum(0))


@pytest.mark.parametrize("native", ["sum", "mean", "unit-free"])
def test_match_norm(native):
    rows = inputs.conflicting(3, 0).numpy()
    weights, message = rescale(np.array([0.2, 0.5, 0.9]), rows @ rows.T, "match-norm", native)
    assert np.linalg.norm(weights @ rows) == pytest.approx(np.linalg.norm(rows.sum(0)))
    assert message is None


def test_match_norm_where_gradients_cancel():
    gramian = np.array([[1.0, -1.0], [-1.0, 1.0]])
    weights, message = rescale(np.array([0.5, 0.2]), gramian, "match-norm", "sum")
    assert weights.tolist() == [0.5, 0.2]
    assert "cancel" in str(message)


@pytest.mark.parametrize("scale", ["sum", "mean", "match-norm"])
def test_zero_stays_zero(scale):
    weights, message = rescale(np.zeros(2), np.eye(2), scale, "unit-free")
    assert weights.tolist() == [0.0, 0.0]
    assert message is None


@pytest.mark.parametrize(("scale", "native"), [("match-norm", "sum"), ("match-norm", "mean"), ("sum", "unit-free")])
def test_what_needs_the_gramian(scale, native):
    with pytest.raises(AccordError, match="needs the Gramian"):
        factor(scale, native, 3)
    with pytest.raises(AccordError, match="needs the Gramian"):
        rescale(np.ones(3), None, scale, native)


def test_unknown_scale():
    with pytest.raises(AccordError, match="Did you mean 'match-norm'"):
        factor("match_norm", "sum", 2)
    with pytest.raises(AccordError, match="expected one of sum, mean, native, match-norm"):
        rescale(np.ones(2), np.eye(2), "x", "unit-free")


def test_every_method_can_be_scaled():
    """ "sum" and "mean" need no Gramian unless the method computes one anyway."""
    for cls in METHODS:
        if cls.native_scale == "unit-free":
            assert issubclass(cls, Weighting)
            assert cls.needs_gramian
