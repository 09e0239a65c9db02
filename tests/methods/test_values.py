"""Golden values: one row per method, on J = [[-4, 1, 1], [6, 1, 1]] and losses (1, 4), in the native scale."""

from __future__ import annotations

import pytest
import torch

from accord.methods import METHODS, Aggregation, Weighting, parse

from laws import weigh

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
    "FairGrad()": [0.05415327, 0.70606920, 0.70606920],
    "FairGrad(alpha=0.0, max_norm=0.0)": [1.0, 1.0, 1.0],
    "FairGrad(alpha=0.5, max_norm=0.0)": [0.18104265, 1.26822086, 1.26822086],
    "FairGrad(alpha=2.0, max_norm=0.0)": [0.03127368, 0.79081715, 0.79081715],
    "DualProj()": [0.55555556, 1.11111111, 1.11111111],
    "DualProj(pref=(1.0, 3.0))": [0.83333333, 1.66666667, 1.66666667],
    "ConFIG()": [0.15880898, 2.07060676, 2.07060676],
    "ConFIG(length='min')": [0.12948321, 1.68824720, 1.68824720],
    "ConFIG(length='max')": [0.18813474, 2.45296631, 2.45296631],
    "ConFIG(pref=(1.0, 2.0), length='harmonic')": [0.42620198, 1.97049692, 1.97049692],
    "GradVac()": [0.58479532, 3.80116959, 3.80116959],
    "Krum()": [-4.0, 1.0, 1.0],
    "Krum(average=2)": [1.0, 1.0, 1.0],
    "AGEM()": [-2.88888889, 3.22222222, 3.22222222],
    "AGEM(main=1)": [5.47368421, 2.57894737, 2.57894737],
    "AGEM(when='always')": [-2.88888889, 3.22222222, 3.22222222],
    "GradCosine()": [-4.0, 1.0, 1.0],
    "GradCosine(main=1, weighted=False)": [6.0, 1.0, 1.0],
    "Lexicographic()": [-2.88888889, 3.22222222, 3.22222222],
    "Lexicographic(ranks=(2.0, 1.0))": [5.47368421, 2.57894737, 2.57894737],
    "GradOPS()": [0.58479532, 3.80116959, 3.80116959],
    "IMTLL()": [-2.5, 1.25, 1.25],
    "IMTLL(init=0.0)": [2.0, 2.0, 2.0],
    "IMTL()": [0.03450136, 0.44984072, 0.44984072],
    "IMTL(init=0.0)": [0.07669683, 1.0, 1.0],
    "GLS()": [-2.5, 1.25, 1.25],
    "STCH()": [-2.5, 1.25, 1.25],
    "STCH(mode='bare')": [2.08787238, 0.5, 0.5],
    "STCH(mode='bare', mu=0.5, pref=(0.7, 0.3), ideal=(0.0, 3.0))": [-1.37388261, 0.57598979, 0.57598979],
    "PBI(weights=(1.0, 1.0))": [36.76955262, 1.41421356, 1.41421356],
    "PBI(weights=(3.0, 4.0), theta=0.5, ideal=(0.5, 1.0))": [5.8, 1.3, 1.3],
    "COSMOS(ratio=(1.0, 1.0))": [3.33163607, 1.81841326, 1.81841326],
    "COSMOS(ratio=(0.8, 0.2), penalty=8.0)": [7.13494810, -0.24567474, -0.24567474],
    "GradNorm()": [2.0, 2.0, 2.0],
    "InverseNorm(form='jaxpi')": [1.81588090, 2.00706068, 2.00706068],
    "InverseNorm(ema=0.0, form='jaxpi')": [0.15880898, 2.07060676, 2.07060676],
    "FAMO(amortized=True)": [-2.0, 1.0, 1.0],
    "DWA(window='epoch')": [2.0, 2.0, 2.0],
    "SDMGrad()": [4.84615385, 1.0, 1.0],
    "SDMGrad(lr=0.1)": [0.00087794, 1.0, 1.0],
    "MoDo()": [0.95, 1.0, 1.0],
    "MoDo(gamma=0.01, rho=0.0)": [0.5, 1.0, 1.0],
    "MoCo()": [-0.125, 0.5, 0.5],
    "MoCo(normalise=True)": [0.51093299, 0.20177901, 0.20177901],
    "MomentumConFIG()": [1.0, 1.0, 1.0],
    "GCond()": [5.47368421, 2.57894737, 2.57894737],
    "GCond(thresholds=(-0.9, -0.8, 0.0))": [0.75740218, 3.75801788, 3.75801788],
    "Bloop()": [-2.88888889, 3.22222222, 3.22222222],
    "Bloop(main=1, weight=0.5)": [5.73684211, 1.78947368, 1.78947368],
    "TrimmedMean(trim=0)": [1.0, 1.0, 1.0],
    "ExcessMTL()": [2.0, 2.0, 2.0],
    "DBMTL()": [0.12948321, 1.68824718, 1.68824718],
    "DBMTL(beta=0.9)": [0.01294832, 0.16882472, 0.16882472],
    "Smoothed()": [0.29239766, 1.90058480, 1.90058480],
    "Smoothed(method='DWA()', alpha=0.5)": [2.0, 2.0, 2.0],
}


@pytest.mark.parametrize("spelling", list(GOLDEN))
def test_golden(spelling):
    method, generator = parse(spelling), torch.Generator().manual_seed(0)
    if isinstance(method, Aggregation):
        d = method.aggregate(ROWS, LOSSES, generator=generator)
    else:
        assert isinstance(method, Weighting)
        d = weigh(method, ROWS, LOSSES, generator) @ ROWS
    assert d.tolist() == pytest.approx(GOLDEN[spelling], abs=1e-7)


def test_every_method_has_a_golden_value():
    alone = {cls.__name__ for cls in METHODS if not cls.needs_validation}  # the others have no value without a model
    assert {spelling.split("(")[0] for spelling in GOLDEN} == alone
