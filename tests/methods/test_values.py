"""Golden values: one row per method, on J = [[-4, 1, 1], [6, 1, 1]] and losses (1, 4), in the native scale."""

from __future__ import annotations

import pytest
import torch

from accord.methods import METHODS, Aggregation, parse

ROWS = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)  # G = [[18, -22], [-22, 38]]
LOSSES = torch.tensor([1.0, 4.0], dtype=torch.float64)
GOLDEN = {
    "Sum()": [2.0, 2.0, 2.0],
    "Mean()": [1.0, 1.0, 1.0],
    "Constant(weights=(1.0, 2.0))": [8.0, 3.0, 3.0],
    "UPGrad()": [0.29239766, 1.90058480, 1.90058480],
    "UPGrad(pref=(3.0, 1.0))": [-0.11695906, 1.73976608, 1.73976608],
    "MGDA()": [0.0, 1.0, 1.0],
    "MGDA(normalise='l2')": [1.0, 1.0, 1.0],
    "MGDA(normalise='loss')": [3.49003984, 1.0, 1.0],
    "CAGrad(c=0.5)": [0.14680274, 0.96329932, 0.96329932],
    "CAGrad(c=0.0)": [1.0, 1.0, 1.0],
    "CAGrad(c=2.0)": [0.0, 0.66904158, 0.66904158],
    "PCGrad()": [0.58479532, 3.80116959, 3.80116959],
    "NashMTL()": [0.05415327, 0.70606920, 0.70606920],
    "NashMTL(max_norm=0.0)": [0.07658429, 0.99853264, 0.99853264],
    "IMTLG()": [0.07669683, 1.0, 1.0],
    "AlignedMTL()": [0.42655749, 1.93466597, 1.93466597],
    "AlignedMTL(scale_mode='rmse')": [1.15275163, 5.22834408, 5.22834408],
    "GradDrop()": [-4.0, 2.0, 2.0],
    "GradDrop(leak=0.25)": [-2.5, 2.0, 2.0],
    "UncertaintyWeighting()": [-1.25, 0.625, 0.625],
    "UncertaintyWeighting(init=0.0)": [1.0, 1.0, 1.0],
    "DWA()": [2.0, 2.0, 2.0],
    "FAMO()": [-2.0, 1.0, 1.0],
    "RandomWeighting()": [-2.62288029, 1.0, 1.0],
    "InverseNorm()": [0.15339366, 2.0, 2.0],
}


@pytest.mark.parametrize("spelling", list(GOLDEN))
def test_golden(spelling):
    method, generator = parse(spelling), torch.Generator().manual_seed(0)
    if isinstance(method, Aggregation):
        d = method.aggregate(ROWS, generator=generator)
    else:
        d = method(ROWS @ ROWS.T, LOSSES, generator=generator) @ ROWS
    assert d.tolist() == pytest.approx(GOLDEN[spelling], abs=1e-7)


def test_every_method_has_a_golden_value():
    assert {spelling.split("(")[0] for spelling in GOLDEN} == {cls.__name__ for cls in METHODS}
