"""Solvers against enumeration, bisection and their own optimality conditions."""

from __future__ import annotations

import numpy as np
import pytest

from accord.linalg.cone import onto_dual_cone
from accord.linalg.lawson_hanson import lawson_hanson
from accord.linalg.min_norm import min_norm
from accord.linalg.newton import bargain
from accord.linalg.nnls import nnls
from accord.linalg.norm_penalty import linear_plus_norm
from accord.linalg.pinv import eigen, pinv_solve
from accord.linalg.scaling import is_stationary, regularised, scaled
from accord.linalg.simplex import onto_simplex
from accord.linalg.simplex_qp import _active_set, simplex_qp

import inputs
from oracles import methods as slow

SEEDS = range(6)
SIZES = [1, 2, 3, 5]
ALL = {**inputs.INPUTS, "weakly stationary": inputs.weakly_stationary}


def cosines(label: str, k: int, seed: int) -> np.ndarray:
    rows = ALL[label](max(k, 3) if label == "weakly stationary" else max(k, 2), seed)
    rows = rows[rows.norm(dim=1) > 0][:k]
    return scaled((rows @ rows.T).numpy())[1]


def random(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("label", list(ALL))
@pytest.mark.parametrize("k", [*SIZES, 9, 20, 40])
def test_nnls_meets_its_conditions(label, k):
    """``s ≥ 0``, ``y = As − b ≥ 0``, ``sᵀy = 0``: these prove the optimum, for every right-hand side at once."""
    for seed in SEEDS if k < 20 else range(2):
        matrix = regularised(cosines(label, k, seed), 1e-10)
        targets = np.vstack([-matrix, random((3, len(matrix)), seed)])
        found = nnls(matrix, targets)
        slack = found.value @ matrix - targets
        size = 1 + np.abs(found.value).max(1, keepdims=True)
        assert found.converged
        assert (found.value >= 0).all()
        assert (slack >= -1e-9 * size).all()
        assert np.abs(found.value * slack).max(initial=0) <= 1e-8 * size.max() ** 2


@pytest.mark.parametrize("k", SIZES)
def test_nnls_by_enumeration(k):
    for seed in SEEDS:
        matrix, targets = regularised(cosines("conflicting", k, seed), 1e-10), random((4, k), seed)
        expected = [slow.nnls(matrix, target) for target in targets]
        assert np.allclose(nnls(matrix, targets).value, expected, atol=1e-9)
        for start in (np.zeros_like(targets), np.abs(random((4, k), seed + 1)), np.ones_like(targets)):
            assert np.allclose(lawson_hanson(matrix, targets, start).value, expected, atol=1e-9)


@pytest.mark.parametrize("label", list(ALL))
@pytest.mark.parametrize("k", [3, 9, 20])
def test_nnls_falls_back(label, k):
    """Without any block pivoting, Lawson and Hanson's method does all the work: the same objective."""
    matrix = regularised(cosines(label, k, 0), 1e-10)
    fast, safe = nnls(matrix, -matrix), lawson_hanson(matrix, -matrix, np.zeros_like(matrix))
    assert safe.converged
    assert nnls(matrix, -matrix, cap=0).converged
    objective = [0.5 * np.einsum("ri,ij,rj->r", s, matrix, s) + (s * matrix).sum(1) for s in (fast.value, safe.value)]
    assert np.allclose(*objective, atol=1e-9)


def test_lawson_hanson_says_when_it_gives_up():
    """An indefinite matrix has no minimum: the answer is marked, feasible and finite."""
    matrix, targets = np.array([[1.0, 3.0, 0.0], [3.0, 1.0, 3.0], [0.0, 3.0, -1.0]]), np.array([[1.0, -2.0, 1.0]])
    found = lawson_hanson(matrix, targets, np.zeros((1, 3)))
    assert not found.converged
    assert found.residual > 0
    assert (found.value >= 0).all()
    assert np.isfinite(found.value).all()


@pytest.mark.parametrize("label", list(ALL))
def test_dual_cone(label):
    """The projection p of x has ``Jp ≥ 0`` and ``(x − p)·p = 0``, and x − p lies in the polar cone."""
    for k in (2, 5, 20):
        for seed in SEEDS:
            matrix = cosines(label, k, seed)
            u = random((len(matrix),), seed)
            found = onto_dual_cone(matrix, u)
            size = np.abs(found.value).sum() + np.abs(u).sum()
            assert found.converged
            assert (matrix @ found.value >= -1e-9 * size).all()
            assert (found.value - u >= -1e-9 * size).all()
            assert abs((found.value - u) @ matrix @ found.value) <= 1e-7 * size**2


@pytest.mark.parametrize("label", list(ALL))
@pytest.mark.parametrize("k", [2, 3, 9, 40])
def test_min_norm(label, k):
    """``g_i·d ≥ ‖d‖²`` for all i proves the optimum."""
    for seed in SEEDS if k < 40 else range(2):
        rows = ALL[label](max(k, 3), seed).numpy()
        rows = rows[np.linalg.norm(rows, axis=1) > 0]
        norms, matrix = scaled(rows @ rows.T)
        found = min_norm(norms, matrix)
        d = found.value @ rows
        assert found.converged
        assert found.value.sum() == pytest.approx(1)
        assert (found.value >= 0).all()
        assert (rows @ d - d @ d >= -1e-8 * norms * (found.value * norms).sum()).all()


@pytest.mark.parametrize("k", SIZES)
def test_simplex_qp_by_enumeration(k):
    for seed in SEEDS:
        for label in ("conflicting", "gaussian", "opposite"):
            matrix = regularised(cosines(label, k, seed), 1e-6)
            linear, price = random((len(matrix),), seed), np.exp(random((len(matrix),), seed + 1))
            expected = slow.simplex_qp(matrix, linear, price)
            starts = [None, *(np.eye(len(matrix), dtype=bool)), np.zeros(len(matrix), dtype=bool)]
            for free in starts:
                found = simplex_qp(matrix, linear, price, free)
                assert found.converged
                assert np.allclose(found.value, expected, atol=1e-6)
            bordered = matrix + np.outer(price, price)
            assert np.allclose(_active_set(bordered, linear, price).value, expected, atol=1e-6)


@pytest.mark.parametrize("label", list(ALL))
@pytest.mark.parametrize("k", [9, 40])
def test_simplex_qp_meets_its_conditions(label, k):
    """On the support, the gradient is a multiple of the price; off it, it is larger."""
    matrix = regularised(cosines(label, k, 0), 1e-12)
    linear, price = random((len(matrix),), 0), np.ones(len(matrix))
    found = simplex_qp(matrix, linear)
    gradient = matrix @ found.value + linear
    level = gradient[found.value > 0].mean()
    assert found.converged
    assert found.value @ price == pytest.approx(1)
    assert (gradient >= level - 1e-9).all()
    assert np.abs(gradient[found.value > 0] - level).max() <= 1e-9


@pytest.mark.parametrize("k", [2, 3, 8])
@pytest.mark.parametrize("radius", [0.05, 0.5, 1.0, 4.0])
def test_norm_penalty_against_a_general_solver(k, radius):
    """scipy's SLSQP from several starts never finds anything lower."""
    from scipy.optimize import minimize

    for seed in SEEDS:
        matrix = cosines("gaussian", k, seed)
        linear = matrix @ np.abs(random((k,), seed))
        linear /= np.abs(linear).max()
        price = np.exp(-np.abs(random((k,), seed + 1)))
        price /= price.max()

        def objective(x, matrix=matrix, linear=linear):
            return linear @ x + radius * np.sqrt(max(x @ matrix @ x, 1e-300))

        found = linear_plus_norm(matrix, linear, radius, price, 1e-10)
        assert found.converged
        assert price @ found.value == pytest.approx(1)
        assert (found.value >= 0).all()
        for start in (np.full(k, 1 / k), np.abs(random((k,), seed + 2))):
            other = minimize(
                objective,
                start / (price @ start),
                method="SLSQP",
                bounds=[(0, None)] * k,
                constraints={"type": "eq", "fun": lambda x, price=price: price @ x - 1},
                options={"ftol": 1e-12},
            )
            assert objective(found.value) <= objective(np.maximum(other.x, 0)) + 1e-8


def test_norm_penalty_for_two_equals_the_general_solver():
    """A third row that is never worth its price makes the closed form face the general method."""
    for seed in range(20):
        matrix = cosines("gaussian", 2, seed)
        three = np.eye(3)
        three[:2, :2] = matrix
        linear, price = random((2,), seed) / 3, np.exp(-np.abs(random((2,), seed + 1)))
        price /= price.max()
        closed = linear_plus_norm(matrix, linear, 0.5, price, 1e-10).value
        general = linear_plus_norm(three, np.append(linear, 1e3), 0.5, np.append(price, price.min()), 1e-10).value
        assert np.allclose(np.append(closed, 0), general, atol=1e-8)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("k", [1, 2, 9, 40])
def test_newton_solves_its_equation(power, k):
    for label in ("gaussian", "conflicting", "agreeing", "parallel"):
        for seed in SEEDS:
            matrix = regularised(cosines(label, k, seed), 1e-10)
            right = np.exp(random((len(matrix),), seed))
            found = bargain(matrix, right, power)
            assert found.converged
            assert (found.value > 0).all()
            assert np.allclose(matrix @ found.value, right * found.value**-power, rtol=2e-6)


def test_newton_says_when_it_gives_up():
    matrix = regularised(cosines("conflicting", 9, 0), 1e-10)
    found = bargain(matrix, np.exp(3 * random((9,), 0)), cap=1)
    assert not found.converged
    assert found.residual > 1e-6
    assert (found.value > 0).all()


@pytest.mark.parametrize("label", ["opposite", "strongly stationary", "weakly stationary"])
def test_newton_proves_that_rows_cancel(label):
    """At a stationary point the answer is a positive combination that is (nearly) zero."""
    for k in (3, 9, 40):
        matrix = cosines(label, k, 0)
        found = bargain(regularised(matrix, 1e-10))
        assert found.converged
        assert (found.value > 0).all()
        assert found.value @ matrix @ found.value <= 1e-8 * found.value.sum() ** 2


@pytest.mark.parametrize("k", [1, 2, 5, 40])
def test_simplex_projection_by_bisection(k):
    for seed in SEEDS:
        point = 3 * random((k,), seed)
        assert np.allclose(onto_simplex(point), slow.onto_simplex(point), atol=1e-9)


def test_pseudo_inverse():
    for k in (2, 5):
        for seed in SEEDS:
            matrix, right = cosines("rank deficient", k, seed), random((k,), seed)
            assert np.allclose(pinv_solve(matrix, right, 1e-10), np.linalg.pinv(matrix, 1e-10) @ right, atol=1e-8)
            assert len(eigen(matrix, 1e-10)[0]) == np.linalg.matrix_rank(matrix, tol=1e-8)


def test_scaling_undoes_itself_at_any_size():
    for ratio in (1.0, 1e3, 1e6):
        for size in (1e-140, 1.0, 1e140):
            rows = size * inputs.unequal(ratio)(4, 0).numpy()
            norms, matrix = scaled(rows @ rows.T)
            units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            assert np.allclose(norms, np.linalg.norm(rows, axis=1), rtol=1e-12)
            assert np.abs(matrix).max() <= 1
            assert (np.diagonal(matrix) == 1).all()
            assert np.allclose(matrix, units @ units.T)


@pytest.mark.parametrize(("epsilon", "limit"), [(1e-10, 1e-6), (1.2e-7, 7e-4)])
def test_stationary_threshold(epsilon, limit):
    """Two rows that are opposite up to a small angle: the direction counts as zero below the limit only."""
    for angle, expected in ((0.3 * limit, True), (10 * limit, False)):
        c = -np.cos(angle)
        assert is_stationary(np.array([[1.0, c], [c, 1.0]]), np.ones(2), epsilon) == expected
