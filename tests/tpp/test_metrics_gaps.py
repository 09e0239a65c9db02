"""Errors of predicted gaps; no event disappears."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from accord.tpp.errors import TPPError
from accord.tpp.metrics.gaps import gap_errors


@pytest.mark.parametrize("count", [1, 8, 9])
def test_against_numpy(count):
    generator = torch.Generator().manual_seed(count)
    predicted, gaps = torch.rand(2, count, generator=generator)
    error = np.abs(predicted.double().numpy() - gaps.double().numpy())
    found = gap_errors(predicted, gaps)
    assert found.mae == pytest.approx(error.mean(), rel=1e-14)
    assert found.rmse == pytest.approx(np.sqrt((error**2).mean()), rel=1e-14)
    assert found.median == pytest.approx(np.median(error), rel=1e-14)
    assert (found.count, found.unresolved) == (count, 0)


def test_unresolved_predictions_are_counted_and_count_in_the_median():
    found = gap_errors(torch.tensor([1.0, torch.inf, torch.inf]), torch.tensor([3.0, 1.0, 1.0]))
    assert (found.count, found.unresolved, found.mae, found.rmse, found.median) == (3, 2, 2.0, 2.0, math.inf)
    assert math.isnan(gap_errors(torch.tensor([torch.inf]), torch.tensor([1.0])).mae)


@pytest.mark.parametrize(
    ("predicted", "gaps", "message"),
    [
        ([1.0, math.nan], [1.0, 1.0], "1 of 2 predicted gaps are NaN or negative"),
        ([-1.0], [1.0], "NaN or negative"),
        ([1.0], [math.inf], "not all finite"),
        ([1.0], [1.0, 2.0], "expected (n,) twice"),
        ([], [], "n > 0"),
    ],
)
def test_refusals(predicted, gaps, message):
    with pytest.raises(TPPError) as caught:
        gap_errors(torch.tensor(predicted), torch.tensor(gaps))
    assert message in str(caught.value)
