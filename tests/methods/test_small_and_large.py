"""Small inputs take shorter ways than large ones: both against each other, and whole calls with broken rows."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import Tensor

from accord import inner
from accord.errors import AccordError
from accord.linalg.cone import onto_dual_cone
from accord.linalg.nnls import nnls_one, pivot_one
from accord.linalg.scaling import is_stationary, regularised, scaled
from accord.linalg.splitting import douglas_rachford
from accord.methods import Context, ExcessMTL, GradDrop, Mean, TrimmedMean, UPGrad, excess_mtl, graddrop, trimmed_mean
from accord.rows import Rows

import inputs

logging.getLogger("accord").setLevel(logging.ERROR)
DTYPES = [torch.bfloat16, torch.float32, torch.float64]


def tied(k: int, seed: int) -> Tensor:
    """Small integers, so that many entries of a column are equal."""
    return torch.randint(-2, 3, (k, 3, 7), generator=torch.Generator().manual_seed(seed)).double()


def cosines_of(rows: Tensor) -> np.ndarray:
    return scaled((rows @ rows.T).numpy())[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 5, 12])
def test_trimmed_mean_sorted_and_not(monkeypatch, k, dtype):
    for trim in range(4):
        for rows in (tied(k, trim), inputs.normal(k, 21, seed=trim) * torch.logspace(-9, 9, k)[:, None]):
            rows = rows.to(dtype)
            found = []
            for limit in (0, 1 << 20):
                monkeypatch.setattr(trimmed_mean, "SORTED", limit)
                found.append(TrimmedMean(trim).reduce(rows, torch.Generator()))
            assert found[0].dtype == found[1].dtype == dtype
            middle = rows.double().sort(0).values[min(trim, (k - 1) // 2) :][: max(1, k - 2 * trim) + 1].abs().amax(0)
            error = (found[0].double() - found[1].double()).abs()
            assert bool((error <= 8 * torch.finfo(dtype).eps * middle).all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_graddrop_at_once_and_row_by_row(monkeypatch, dtype):
    rows = inputs.conflicting(9, 0).to(dtype)
    found = []
    for limit in (0, 1 << 20):
        monkeypatch.setattr(graddrop, "SMALL", limit)
        found.append(GradDrop(leak=0.3).aggregate(rows, generator=torch.Generator().manual_seed(3)).double())
    assert torch.allclose(*found, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_excess_mtl_joined_and_one_by_one(monkeypatch, dtype):
    """Parameters of two sizes and a scalar, not all of them reached by all tasks; one gradient is sparse."""
    runs = []
    for limit in (0, 14, 1 << 20):
        monkeypatch.setattr(excess_mtl, "SMALL", limit)
        method, found = ExcessMTL(lr=0.5), []
        for step in range(4):
            flat = inputs.normal(5, 11, seed=step).to(dtype)
            reached: list[list[Tensor | None]] = [[row[:6].view(3, 2), row[6:10], row[10]] for row in flat]
            reached[1][0] = reached[4][1] = None
            reached[2][0] = flat[2, :6].view(3, 2).to_sparse()
            context = Context(np.arange(5), 5, torch.Generator(), rows=Rows(reached, ["a", "b", "c"]))
            found.append(method.solve(None, None, context))
        runs.append(np.array(found))
    assert not np.allclose(runs[0][-1], 1.0)
    assert np.allclose(runs[0], runs[1], rtol=1e-6)
    assert np.allclose(runs[0], runs[2], rtol=1e-6)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16, torch.complex64])
@pytest.mark.parametrize("shape", [(3, 0), (1, 1), (4, 5, 3), (7, 4100)])
def test_gramians_at_once_and_in_pieces(monkeypatch, dtype, shape):
    rows = inputs.normal(*shape, seed=1).to(dtype)
    wide = torch.view_as_real(rows) if rows.is_complex() else rows
    wide = wide.reshape(len(rows), -1).double()
    for limit in (0, 1 << 20):
        monkeypatch.setattr(inner, "CACHE", limit)
        if limit or rows.numel():
            for found in (inner.gramian(rows), inner.gramian(list(rows))):
                assert torch.equal(found, found.T)
                assert torch.allclose(found, wide @ wide.T, rtol=1e-6, atol=1e-6 * max(1.0, float(wide.square().sum())))
        assert torch.allclose(inner.squares(rows), wide.square().sum(1), rtol=1e-12)


def test_gramian_of_sparse_and_dense_rows():
    rows = [torch.eye(3), torch.eye(3).to_sparse(), torch.ones(3, 3)]
    assert inner.gramian(rows).tolist() == [[3.0, 3.0, 3.0], [3.0, 3.0, 3.0], [3.0, 3.0, 9.0]]


@pytest.mark.parametrize("method", [TrimmedMean(), GradDrop(leak=1.0), UPGrad(), ExcessMTL()])
@pytest.mark.parametrize("broken", [0.0, float("nan"), float("inf")])
def test_broken_rows_take_no_part(method, broken):
    whole = inputs.conflicting(6, 2)
    spoiled = torch.cat([whole[:2], torch.full_like(whole[:1], broken), whole[2:]])
    if isinstance(method, (TrimmedMean, GradDrop)):
        assert torch.equal(method.aggregate(spoiled), method.aggregate(whole))
    else:
        weights = type(method)()(gradients=spoiled)
        assert weights[2] == 0
        assert torch.allclose(weights[[0, 1, 3, 4, 5, 6]], type(method)()(gradients=whole), rtol=1e-9)


def test_no_rows_at_all():
    with pytest.raises(AccordError, match="expected a real floating-point tensor"):
        Mean()(gradients=torch.ones(0, 3))


@pytest.mark.parametrize("k", [3, 12, 40])
def test_splitting_of_one_row_is_that_of_many(k):
    matrix = cosines_of(inputs.conflicting(k, 1))
    both = douglas_rachford(matrix, -matrix[:2], 0.1, 25)
    one = [douglas_rachford(matrix, -matrix[i : i + 1], 0.1, 25) for i in range(2)]
    assert np.allclose(np.concatenate(one), both, rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [5, 9, 20, 40])
def test_projection_with_singular_matrices(k):
    """The conditions of optimality, whichever way led there."""
    for seed in range(6):
        rank = max(1, k // 2)
        rows = inputs.normal(k, rank, seed=seed) @ inputs.normal(rank, 2 * k, seed=seed + 50)
        cosines = cosines_of(rows)
        found = onto_dual_cone(cosines, np.ones(k))
        added = found.value - 1
        assert found.converged
        assert added.min() >= 0
        if not is_stationary(cosines, found.value):
            slack, size = cosines @ found.value, np.abs(found.value).sum()
            assert slack.min() >= -1e-9 * size
            assert np.abs(added * slack).max() <= 1e-9 * size**2


def test_pivoting_from_any_guess():
    matrix = regularised(cosines_of(inputs.conflicting(6, 3)), 1e-10)
    target = inputs.normal(6, seed=4).numpy()
    expected = nnls_one(matrix, target).value
    for code in range(64):
        found = pivot_one(matrix, target, 40, np.array([bool(code >> i & 1) for i in range(6)]))
        assert found.converged
        assert np.allclose(found.value, expected, atol=1e-10)
