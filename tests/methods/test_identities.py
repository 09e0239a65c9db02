"""Relations between methods, and what each becomes in the limit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from accord.methods import METHODS, CAGrad, Krum, Weighting, parse

import inputs
from laws import never_conflicts

SEEDS = range(10)


def weights(spelling: str, rows: torch.Tensor, losses: torch.Tensor | None = None) -> torch.Tensor:
    method = parse(spelling)
    assert isinstance(method, Weighting)
    return method(rows @ rows.T, losses, generator=torch.Generator().manual_seed(0))


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


@pytest.mark.parametrize("spelling", ["IMTLG()", "NashMTL()", "InverseNorm()"])
@pytest.mark.parametrize("seed", SEEDS)
def test_bisector_of_two(spelling, seed):
    """K = 2: the direction of ``g_1/n_1 + g_2/n_2``."""
    rows = inputs.unequal(1e3)(2, seed)
    expected = unit(rows[0]) + unit(rows[1])
    assert torch.allclose(unit(weights(spelling, rows) @ rows), unit(expected), atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_pcgrad_is_twice_upgrad_for_two(seed):
    rows = inputs.unequal(1e3)(2, seed)
    assert torch.allclose(weights("PCGrad()", rows), 2 * weights("UPGrad()", rows), rtol=1e-12)


@pytest.mark.parametrize("k", [2, 3, 9, 40])
def test_nash_bargains(k):
    """Without the clip, ``Gw = 1/w``, so ``‖d‖ = √K``; with it, ``‖d‖`` is the bound."""
    for seed in SEEDS:
        rows = inputs.conflicting(k, seed)
        w = weights("NashMTL(max_norm=0.0)", rows)
        assert torch.allclose(rows @ rows.T @ w * w, torch.ones(k, dtype=torch.float64), atol=1e-5)
        assert float((w @ rows).norm()) == pytest.approx(k**0.5, rel=1e-5)  # ε counts a little
        assert float((weights("NashMTL(max_norm=0.5)", rows) @ rows).norm()) == pytest.approx(0.5)


@pytest.mark.parametrize("k", [2, 3, 9])
def test_without_conflict(k):
    """All ``G_ij ≥ 0``: UPGrad is the mean, PCGrad the sum, exactly."""
    rows = inputs.agreeing(k, 0)
    assert weights("UPGrad()", rows).tolist() == [1 / k] * k
    assert weights("PCGrad()", rows).tolist() == [1.0] * k


@pytest.mark.parametrize("k", [2, 3, 9])
def test_orthogonal_rows_of_equal_length(k):
    """Every deterministic, symmetric method is parallel to the sum; seven have known weights. Krum has to choose."""
    rows = inputs.orthogonal(k, 0)
    known = {"UPGrad": 1 / k, "DualProj": 1 / k, "MGDA": 1 / k}
    known |= {"PCGrad": 1.0, "GradVac": 1.0, "ConFIG": 1.0, "AlignedMTL": 1.0}
    for cls in METHODS:
        if issubclass(cls, Weighting) and cls.needs_gramian and "PR" not in cls.laws and cls is not Krum:
            w = weights(cls.__name__, rows, torch.ones(k, dtype=torch.float64))
            assert torch.allclose(w, w.mean().expand(k), rtol=1e-9), cls
            assert float(w.mean()) == pytest.approx(known.get(cls.__name__, float(w.mean())), rel=1e-9)


@pytest.mark.parametrize("label", list(inputs.INPUTS))
def test_cagrad_with_radius_zero_is_the_mean(label):
    rows = inputs.INPUTS[label](4, 0)
    assert torch.equal(weights("CAGrad(c=0.0)", rows), weights("Mean()", rows))


@pytest.mark.parametrize("k", [2, 3, 9])
def test_cagrad_tends_to_mgda(k):
    rows = inputs.conflicting(k, 0)
    far = unit(weights("CAGrad(c=1e6)", rows) @ rows)
    assert torch.allclose(far, unit(weights("MGDA()", rows) @ rows), atol=1e-4)


@pytest.mark.parametrize("c", [1.0, 1.5, 10.0])
@pytest.mark.parametrize("label", [*inputs.INPUTS, "weakly stationary"])
def test_cagrad_harms_nobody_from_radius_one(label, c):
    """The zero of "no progress for anybody" then lies in the ball, so the worst-off task gets at least that."""
    build = inputs.INPUTS.get(label, inputs.weakly_stationary)
    for k in (3, 9):
        for seed in range(3):
            never_conflicts(CAGrad(c=c), build(k, seed))


@pytest.mark.parametrize("seed", range(4))
def test_cagrad_is_continuous_in_its_radius(seed):
    """Small steps of c give small steps of d, through the fall-back at stationary points too."""
    for build in (inputs.conflicting, inputs.opposite, inputs.strongly_stationary):
        rows = build(4, seed)
        directions = [weights(f"CAGrad(c={c})", rows) @ rows for c in np.linspace(0.0, 2.0, 101)]
        steps = [float((b - a).norm()) for a, b in itertools.pairwise(directions)]
        assert max(steps) <= 0.02 * float(rows.norm())


@pytest.mark.parametrize("normalise", [None, "l2", "loss", "loss+"])
def test_mgda_normalisation_divides_rows(normalise):
    """The weights are those of plain MGDA on the divided rows."""
    rows, losses = inputs.conflicting(4, 0), torch.tensor([0.1, 2.0, 30.0, 0.5], dtype=torch.float64)
    norms = rows.norm(dim=1)
    divisor = {None: torch.ones(4), "l2": norms, "loss": losses, "loss+": losses * norms}[normalise]
    expected = weights("MGDA()", rows / divisor[:, None])
    assert torch.allclose(weights(f"MGDA(normalise={normalise!r})", rows, losses), expected, atol=1e-9)


def test_upgrad_preferences_are_relative():
    rows = inputs.conflicting(3, 0)
    assert torch.allclose(weights("UPGrad(pref=(2.0, 2.0, 2.0))", rows), weights("UPGrad()", rows))
    assert torch.allclose(weights("UPGrad(pref=(2.0, 1.0, 1.0))", rows), weights("UPGrad(pref=(0.2, 0.1, 0.1))", rows))


def test_imtlg_never_climbs():
    """Where the weights add up to a negative number, dividing by it (as others do) raises every loss."""
    cosines = torch.tensor([[1, 0.3, 0.8], [0.3, 1, 0.8], [0.8, 0.8, 1]], dtype=torch.float64)
    norms = torch.tensor([1, 1, 0.05], dtype=torch.float64)
    gramian = norms[:, None] * cosines * norms
    w = parse("IMTLG()")(gramian)
    assert float(w.sum()) == pytest.approx(-1.0)
    along = gramian @ w / norms
    assert torch.allclose(along, along.mean().expand(3))
    assert float(along[0]) > 0


def test_aligned_transform_has_one_singular_value():
    """``B G B = λ_s V Vᵀ``: on the balanced system all directions count the same."""
    rows = inputs.conflicting(4, 0)
    w = weights("AlignedMTL()", rows)
    smallest = float(torch.linalg.eigvalsh(rows @ rows.T)[0])
    assert float((w @ rows).square().sum()) == pytest.approx(smallest * 4, rel=1e-9)
