"""What solvers are built of: faces in one batch, the first guess, all projections at once, the level of CAGrad."""

from __future__ import annotations

import numpy as np
import pytest

from accord.linalg.cone import onto_dual_cone, rows_onto_dual_cone
from accord.linalg.faces import on_faces
from accord.linalg.nnls import nnls
from accord.linalg.norm_penalty import _bracketed, linear_plus_norm
from accord.linalg.pinv import pinv_solve
from accord.linalg.scaling import is_stationary, regularised, scaled
from accord.linalg.splitting import douglas_rachford

import inputs

ALL = {**inputs.INPUTS, "weakly stationary": inputs.weakly_stationary}


def cosines(label: str, k: int, seed: int) -> np.ndarray:
    rows = ALL[label](k, seed)
    rows = rows[rows.norm(dim=1) > 0]
    return scaled((rows @ rows.T).numpy())[1]


def random(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("k", [1, 5, 16, 17, 40])
@pytest.mark.parametrize("inverted", [False, True])
def test_faces_one_by_one(k, inverted):
    """Each row solved by itself; free sets of all sizes, the empty and the full one among them."""
    matrix = cosines("gaussian", max(k, 2), 0)[:k, :k]
    targets, free = random((12, k), 1), random((12, k), 2) > np.linspace(-2, 2, 12)[:, None]
    free[0], free[-1] = True, False
    found = on_faces(matrix, np.linalg.inv(matrix) if inverted else None, targets, free)
    for target, row, inside in zip(targets, found, free, strict=True):
        expected = np.zeros(k)
        expected[inside] = np.linalg.solve(matrix[np.ix_(inside, inside)], target[inside])
        assert np.allclose(row, np.where(inside, expected, matrix @ expected - target), atol=1e-10)


@pytest.mark.parametrize("label", ["gaussian", "agreeing", "orthogonal"])
def test_splitting_converges(label):
    matrix = regularised(cosines(label, 20, 0), 1e-10)
    for targets in (-matrix, random((4, 20), 0)):
        guess = np.maximum(douglas_rachford(matrix, targets, 0.5, 400), 0)
        assert np.allclose(guess, nnls(matrix, targets).value, atol=1e-6)


@pytest.mark.parametrize("label", list(ALL))
@pytest.mark.parametrize("k", [3, 7, 8, 12, 40])
def test_all_projections_at_once(label, k):
    """The points are those of one projection at a time; where rows with positive weights cancel, all are zero."""
    for seed in range(3):
        matrix = cosines(label, k, seed)
        found = rows_onto_dual_cone(matrix)
        assert found.converged
        assert (found.value >= np.eye(len(matrix)) - 1e-12).all()
        if label == "strongly stationary":
            assert all(is_stationary(matrix, row) for row in found.value)
        elif not is_stationary(matrix, found.value.sum(0)):
            for unit, row in zip(np.eye(len(matrix)), found.value, strict=True):
                way = row - onto_dual_cone(matrix, unit).value
                assert way @ matrix @ way <= (1e-6 * np.abs(row).sum()) ** 2


@pytest.mark.parametrize("label", list(ALL))
@pytest.mark.parametrize("k", [3, 9, 40])
@pytest.mark.parametrize("spread", [1.0, 1e6])
def test_norm_penalty_meets_its_conditions(label, k, spread):
    """With F the minimum, ``β + cCx/‖x‖ ≥ Fq``, and equal where x > 0; the slow way finds the same minimum."""
    for seed in range(3):
        matrix = regularised(cosines(label, k, seed), 1e-10, share=0.01)
        price = spread ** -np.random.default_rng(seed).uniform(size=len(matrix))
        price /= price.max()
        mass = matrix @ (1 / price)
        linear = mass / max(np.sqrt(mass @ (1 / price)), 1e-3)
        linear /= max(np.abs(linear).max(), 1e-300)
        for radius in (0.1, 0.5, 2.0):
            found = linear_plus_norm(cosines(label, k, seed), linear, radius, price, 1e-10)
            slow = _bracketed(matrix, linear, radius, price)
            level, other = (
                float(linear @ x) + radius * float(np.sqrt(x @ matrix @ x)) for x in (found.value, slow.value)
            )
            assert found.converged
            assert price @ found.value == pytest.approx(1)
            assert (found.value >= 0).all()
            assert level == pytest.approx(other, rel=1e-7, abs=1e-9 * np.abs(found.value).sum())
            size = float(np.sqrt(found.value @ matrix @ found.value))
            slack = linear + radius * (matrix @ found.value) / size - level * price
            noise = 1e-9 * (1 + radius * np.abs(found.value).sum() / size)
            assert slack.min() >= -noise
            assert np.abs(slack[found.value > 0]).max() <= noise


def test_inverse_where_there_is_one():
    """Full rank goes by elimination, anything less by eigenvectors: the same numbers on both sides of the border."""
    for smallest in (1e-3, 1e-9, 1e-11, 1e-14, 0.0):
        basis = np.linalg.qr(random((6, 6), 0))[0]
        values = np.array([1.0, 1.0, 1.0, 1.0, 0.5, smallest])
        matrix, right = basis * values @ basis.T, random((6,), 1)
        kept = values > 1e-10
        expected = (basis[:, kept] / values[kept]) @ (basis[:, kept].T @ right)
        assert np.allclose(pinv_solve((matrix + matrix.T) / 2, right, 1e-10), expected, rtol=1e-5)
