"""FairGrad, DualProj, ConFIG, GradVac and Krum: oracles, identities, limits, and where public code goes wrong."""

from __future__ import annotations

import logging
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import AccordError
from accord.linalg.coefficients import vaccinate
from accord.linalg.scaling import scaled
from accord.methods import FairGrad, GradVac, Krum, Weighting, parse
from accord.methods import fairgrad as fairgrad_module
from accord.methods.pcgrad import visits
from accord.methods.state import PerPair

import inputs
from laws import homogeneous, never_conflicts
from oracles import methods as slow

logging.getLogger("accord").setLevel(logging.ERROR)
SEEDS = range(6)
MILD = {"gaussian": inputs.gaussian, "conflicting": inputs.conflicting, "agreeing": inputs.agreeing}


def weights(spelling: str, rows: torch.Tensor, seed: int = 0) -> torch.Tensor:
    method = parse(spelling)
    assert isinstance(method, Weighting)
    return method(rows @ rows.T, generator=torch.Generator().manual_seed(seed))


def direction(spelling: str, rows: torch.Tensor) -> np.ndarray:
    return (weights(spelling, rows) @ rows).numpy()


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def torchjd():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchjd.aggregation as peer
    return peer


# FairGrad


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("label", ["gaussian", "agreeing"])
def test_fairgrad_by_turns(label, k, alpha):
    for seed in range(3):
        rows = MILD[label](k, seed)
        expected = slow.fairgrad(rows.numpy(), alpha)
        found = direction(f"FairGrad(alpha={alpha}, max_norm=0.0)", rows)
        assert np.allclose(found, expected, atol=1e-7 * np.linalg.norm(expected))


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0])
@pytest.mark.parametrize("label", list(inputs.FULL_RANK))
def test_fairgrad_always_solves_its_equation(label, alpha):
    """``w (Gw)^α = 1`` without an event. For small α a tiny gain is 1/w to a high power: its noise is 1e-9 of Gw."""
    method = FairGrad(alpha=alpha, max_norm=0.0)
    for k in (2, 3, 9, 40):
        for seed in range(3):
            rows = inputs.FULL_RANK[label](k, seed)
            gramian = rows @ rows.T
            w = method(gramian)
            assert method.take_events() == ()
            assert float(w.min()) > 0
            norms = rows.norm(dim=1)
            gains, wanted = gramian @ w / norms, w ** (-1 / alpha) / norms
            assert bool(((gains - wanted).abs() <= 1e-4 * wanted + 1e-9 * (w * norms).sum()).all())


@pytest.mark.parametrize("label", [*inputs.INPUTS, "weakly stationary"])
@pytest.mark.parametrize("k", [3, 9])
def test_fairgrad_of_one_is_nash(k, label):
    build = inputs.INPUTS.get(label, inputs.weakly_stationary)
    for seed in SEEDS:
        rows = build(k, seed)
        for bound in (0.0, 1.0):
            found, expected = (weights(f"{name}(max_norm={bound})", rows) for name in ("FairGrad", "NashMTL"))
            assert torch.allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("spelling", ["FairGrad()", "ConFIG()"])
def test_bisector_of_two(spelling, seed):
    """K = 2: the direction of ``g_1/n_1 + g_2/n_2``."""
    rows = inputs.unequal(1e3)(2, seed)
    expected = unit(unit(rows[0].numpy()) + unit(rows[1].numpy()))
    assert np.allclose(unit(direction(spelling, rows)), expected, atol=1e-9)


@pytest.mark.parametrize(("peer", "alphas"), [("MGDA()", (2.0, 5.0, 20.0)), ("DualProj()", (0.5, 0.2, 0.05))])
@pytest.mark.parametrize("label", ["gaussian", "ratio 1e3"])
@pytest.mark.parametrize("k", [3, 9])
def test_limits_of_fairgrad(k, label, peer, alphas):
    """For α → ∞ the direction tends to MGDA's, for α → 0 to the harmless projection of the sum."""
    for seed in SEEDS:
        rows = inputs.INPUTS[label](k, seed)
        target = unit(direction(peer, rows))
        far = [
            np.linalg.norm(unit(direction(f"FairGrad(alpha={alpha}, max_norm=0.0)", rows)) - target) for alpha in alphas
        ]
        assert far[2] <= 1e-6 or far[0] > far[1] > far[2]
        assert far[2] <= 0.05


@pytest.mark.parametrize("alpha", [0.5, 2.0, 5.0])
def test_fairgrad_harms_nobody_and_is_homogeneous(alpha):
    law = homogeneous((1 - alpha) / (1 + alpha))
    for build in (*inputs.INPUTS.values(), inputs.weakly_stationary):
        for k in (3, 9):
            never_conflicts(FairGrad(alpha=alpha, max_norm=0.0), build(k, 0))
    for label in inputs.FULL_RANK:
        law(FairGrad(alpha=alpha, max_norm=0.0), inputs.FULL_RANK[label](4, 0))


@pytest.mark.parametrize("alpha", [0.05, 20.0])
def test_fairgrad_survives_any_norms(alpha):
    """Powers up to 19 of norms that differ by 1e11, at any scale."""
    for scale in (1e-140, 1.0, 1e140):
        rows = scale * inputs.unequal(1e11)(4, 0)
        d = weights(f"FairGrad(alpha={alpha})", rows) @ rows
        assert bool(torch.isfinite(d).all())
        assert 0 < float(d.norm()) <= 1 + 1e-9


def test_fairgrad_clips():
    rows = inputs.conflicting(4, 0)
    free = direction("FairGrad(alpha=2.0, max_norm=0.0)", rows)
    length = float(np.linalg.norm(free))
    assert np.allclose(direction(f"FairGrad(alpha=2.0, max_norm={length / 2})", rows), free / 2)
    assert np.allclose(direction(f"FairGrad(alpha=2.0, max_norm={2 * length})", rows), free)


def test_fairgrad_says_when_it_gives_up(monkeypatch):
    bargain = fairgrad_module.bargain
    monkeypatch.setattr(fairgrad_module, "bargain", lambda *given: bargain(*given, cap=1))
    rows, method = inputs.unequal(1e3)(9, 0), FairGrad(alpha=5.0)
    assert float(method(rows @ rows.T).min()) > 0
    (event,) = method.take_events()
    assert event.kind == "solver"
    assert "the best feasible iterate is used" in event.message


# DualProj


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("label", [*MILD, "rank deficient"])
def test_dualproj_by_enumeration(k, label):
    pref = np.arange(1.0, k + 1)
    for seed in SEEDS:
        rows = inputs.INPUTS[label](k, seed)
        for shares, spelling in ((np.ones(k), "DualProj()"), (pref, f"DualProj(pref={tuple(pref.tolist())})")):
            expected = slow.dual_proj(rows.numpy(), shares / shares.sum())
            assert np.allclose(direction(spelling, rows), expected, atol=1e-7 * float(rows.norm()))


@pytest.mark.parametrize("seed", SEEDS)
def test_dualproj_of_two_changes_one_weight_at_most(seed):
    rows = inputs.unequal(1e3)(2, seed)
    assert int((weights("DualProj()", rows) != 0.5).sum()) <= 1


@pytest.mark.parametrize("k", [2, 3, 9])
def test_dualproj_keeps_a_harmless_mean(k):
    """If the mean harms nobody, it stays, conflict or not; the weights never fall."""
    for seed in SEEDS:
        rows = inputs.conflicting(k, seed)
        w, gains = weights("DualProj()", rows), rows @ rows.mean(0)
        assert bool((w >= 1 / k - 1e-12).all())
        assert bool(torch.allclose(w, torch.full_like(w, 1 / k))) == bool((gains >= 0).all())


# ConFIG

LENGTHS = {"projection": lambda n: n, "min": np.min, "max": np.max, "harmonic": lambda n: len(n) / (1 / n).sum()}


@pytest.mark.parametrize("length", list(LENGTHS))
@pytest.mark.parametrize("k", [2, 3, 6])
@pytest.mark.parametrize("label", ["gaussian", "conflicting", "ratio 1e3", "ratio 1e6", "rank deficient"])
def test_config_by_pseudo_inverse(label, k, length):
    pref = np.arange(1.0, k + 1)
    for seed in SEEDS:
        rows = inputs.INPUTS[label](k, seed)
        size = 1e-7 * float(rows.norm())
        if not (label == "rank deficient" and k < 4):  # of rank one: equal cosines cannot always be had
            expected = slow.config(rows.numpy(), np.ones(k), LENGTHS[length])
            assert np.allclose(direction(f"ConFIG(length={length!r})", rows), expected, atol=size)
        expected = slow.config(rows.numpy(), pref, LENGTHS[length])
        spelling = f"ConFIG(pref={tuple(pref.tolist())}, length={length!r})"
        assert np.allclose(direction(spelling, rows), expected, atol=size)


@pytest.mark.parametrize("label", list(inputs.FULL_RANK))
def test_config_is_parallel_to_imtlg(label):
    for k in (2, 5, 9):
        rows = inputs.FULL_RANK[label](k, 0)
        assert np.allclose(unit(direction("ConFIG()", rows)), unit(direction("IMTLG()", rows)), atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_config_of_two(seed):
    rows = inputs.unequal(1e3)(2, seed)
    norms = rows.norm(dim=1)
    assert torch.allclose(weights("ConFIG()", rows), norms.sum() / (2 * norms), rtol=1e-9)


def test_config_never_opposes_the_sum():
    """Where dependent gradients make ``Σ g_i·u`` negative, the signed length turns the direction round."""
    turned = 0
    for seed in range(40):
        rows = inputs.strongly_stationary(3, seed)
        rows = inputs.unequal(1e2)(3, seed).norm(dim=1, keepdim=True) * rows
        d, u = direction("ConFIG()", rows), direction("ConFIG(length='min')", rows)
        turned += int(d @ u < 0)
        assert float(rows.sum(0).numpy() @ d) >= -1e-9 * float(rows.norm()) ** 2
    assert turned


def test_config_at_a_dead_end():
    method = parse("ConFIG()")
    for seed in SEEDS:
        rows = inputs.opposite(2, seed)
        assert method(rows @ rows.T).tolist() == [0.0, 0.0]
        assert [event.kind for event in method.take_events()] == ["stationary"]


# GradVac


@pytest.mark.parametrize("beta", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("label", ["gaussian", "conflicting", "agreeing", "ratio 1e3", "orthogonal"])
@pytest.mark.parametrize("k", [2, 3, 6])
def test_gradvac_on_vectors(k, label, beta):
    """Ten steps: coefficients alone give what rotating the gradients gives, in the same order of visits."""
    targets, expected = np.zeros((k, k)), np.zeros((k, k))
    for step in range(10):
        rows = inputs.INPUTS[label](k, step)
        orders = visits(k, torch.Generator().manual_seed(step))
        norms, cosines = scaled((rows @ rows.T).numpy())
        coefficients, targets = vaccinate(cosines, orders, targets, beta)
        d, expected = slow.gradvac(rows.numpy(), orders.tolist(), expected, beta)
        size = float(np.abs(norms @ coefficients).sum())
        assert np.allclose((norms @ coefficients / norms) @ rows.numpy(), d, atol=1e-9 * size)
        assert np.allclose(targets, expected, atol=1e-9)


@pytest.mark.parametrize("label", [*inputs.INPUTS, "weakly stationary"])
@pytest.mark.parametrize("k", [3, 9])
def test_gradvac_starts_as_pcgrad(k, label):
    build = inputs.INPUTS.get(label, inputs.weakly_stationary)
    for seed in SEEDS:
        rows = build(k, seed)
        d, expected = (weights(spelling, rows, seed) @ rows for spelling in ("GradVac()", "PCGrad()"))
        # PCGrad goes on where a gradient has cancelled to rounding, which GradVac leaves alone.
        assert float((d - expected).norm()) <= 1e-6 * float(rows.norm())


def test_gradvac_without_memory_is_pcgrad():
    method, peer = GradVac(beta=0.0), parse("PCGrad()")
    for seed in SEEDS:
        gramian = (rows := inputs.conflicting(4, seed)) @ rows.T
        found, expected = (m(gramian, generator=torch.Generator().manual_seed(seed)) for m in (method, peer))
        assert torch.allclose(found, expected, rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(cosine=st.floats(-0.999, 0.999), target=st.floats(-0.999, 0.999))
def test_gradvac_reaches_its_target(cosine, target):
    """Two tasks: the cosine becomes the larger of the two, and the target moves by β towards the first one."""
    cosines = np.array([[1.0, cosine], [cosine, 1.0]])
    coefficients, targets = vaccinate(cosines, np.array([[1], [0]]), np.full((2, 2), target), 0.25)
    turned = coefficients[0]
    reached = (turned @ cosines[1]) / math.sqrt(turned @ cosines @ turned)
    assert reached == pytest.approx(max(cosine, target), abs=1e-9)
    assert targets[0, 1] == targets[1, 0] == pytest.approx(0.75 * target + 0.25 * cosine)


def test_gradvac_with_gradients_that_cancel_or_agree():
    """An exactly opposite gradient is removed whole, so that its later visits find no cosine and move no target."""
    cosines = np.array([[1.0, -1.0, 0.5], [-1.0, 1.0, -0.5], [0.5, -0.5, 1.0]])
    orders = np.array([[1, 2], [0, 2], [0, 1]])
    coefficients, targets = vaccinate(cosines, orders, np.zeros((3, 3)), 0.5)
    assert coefficients[0].tolist() == [1.0, 1.0, 0.0]
    assert targets[0].tolist() == [0.0, -0.5, 0.0]
    method, parallel = GradVac(beta=1.0), inputs.parallel(3, 0)
    method(parallel @ parallel.T)
    assert method.state_dict()["targets"].numpy() == pytest.approx(1 - np.eye(3))
    other = inputs.conflicting(3, 0)  # targets of one, within reason
    assert bool(torch.isfinite(method(other @ other.T)).all())


def test_gradvac_remembers_pairs_of_all_tasks():
    """A step without task 1 moves the pair (0, 2) only; a state of other shape is refused."""
    method, rows = GradVac(beta=0.5), inputs.conflicting(3, 0)
    gramian = rows @ rows.T
    gramian[1], gramian[:, 1] = math.nan, math.nan
    method(gramian)
    moved = method.state_dict()["targets"] != 0
    assert moved.tolist() == [[False, False, True], [False, False, False], [True, False, False]]
    for shape in ((3,), (2, 3), (2, 2, 2)):
        with pytest.raises(AccordError, match=r"expected \['targets'\] of shape \(K, K\)"):
            PerPair(targets=0.0).load_state_dict({"targets": torch.zeros(shape)})


# Krum


@pytest.mark.parametrize("byzantine", [0, 1, 2])
@pytest.mark.parametrize("average", [1, 2, 4])
@pytest.mark.parametrize("label", ["gaussian", "conflicting", "ratio 1e3", "ratio 1e6"])
def test_krum_by_enumeration(label, average, byzantine):
    for k in (4, 6, 7):
        for seed in SEEDS:
            rows = inputs.INPUTS[label](k, seed)
            expected = slow.krum(rows.numpy(), average, byzantine)
            assert np.allclose(direction(f"Krum(average={average}, byzantine={byzantine})", rows), expected)


def test_krum_of_all_is_the_mean():
    for label in inputs.FULL_RANK:
        rows = inputs.FULL_RANK[label](5, 0)
        assert weights("Krum(average=5)", rows).tolist() == [0.2] * 5
        assert weights("Krum(average=9)", rows).tolist() == [0.2] * 5


def test_krum_does_not_depend_on_the_order_without_ties():
    for seed in SEEDS:
        rows, order = inputs.gaussian(6, seed), torch.randperm(6, generator=torch.Generator().manual_seed(seed))
        assert weights("Krum()", rows[order]).tolist() == weights("Krum()", rows)[order].tolist()


@pytest.mark.parametrize("build", [inputs.orthogonal, lambda k, seed: inputs.gaussian(1, seed).expand(k, -1)])
def test_krum_gives_ties_to_the_first(build):
    """Scores that differ by rounding alone: orthonormal rows, and equal ones."""
    for seed in SEEDS:
        for scale in (1e-3, 1.0, 1e3):
            assert weights("Krum(average=2)", scale * build(5, seed)).tolist() == [0.5, 0.5, 0.0, 0.0, 0.0]


def test_krum_ignores_outliers():
    """One of six is far away; also where squares nearly overflow."""
    for size in (1e2, 1e6, 1e11):
        rows = inputs.gaussian(1, 0) + 0.1 * inputs.gaussian(6, 1)
        rows[2] = -size * rows[2]
        for scale in (1.0, 1e153 / size):
            found = weights("Krum(average=4, byzantine=1)", scale * rows)
            assert sorted(found.tolist()) == [0.0, 0.0, 0.25, 0.25, 0.25, 0.25]
            assert found[2] == 0


def test_krum_says_when_its_guarantee_fails():
    method, rows = Krum(byzantine=2), inputs.gaussian(7, 0)
    method(rows @ rows.T)
    assert method.take_events() == ()
    method(rows[:6] @ rows[:6].T)
    (event,) = method.take_events()
    assert event.message == "Krum(average=1, byzantine=2): K=6: the guarantee against outliers needs more than 6 tasks"


# Public code, and where it goes wrong


@pytest.mark.parametrize("label", ["gaussian", "conflicting"])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_torchjd_agrees_where_it_is_right(k, label):
    """At mild norm ratios; DualProj up to their regularisation by 1e-4."""
    peer, rows = torchjd(), MILD[label](k, 3)
    pairs = [
        ("FairGrad(alpha=1.0, max_norm=0.0)", peer.FairGrad(alpha=1.0), 1e-6),
        ("FairGrad(alpha=2.0, max_norm=0.0)", peer.FairGrad(alpha=2.0), 1e-6),
        ("DualProj()", peer.DualProj(), 5e-3),
        ("ConFIG()", peer.ConFIG(), 1e-9),
    ]
    for spelling, theirs, tolerance in pairs:
        expected = theirs(rows).numpy()
        assert np.linalg.norm(direction(spelling, rows) - expected) <= tolerance * np.linalg.norm(expected), spelling


@pytest.mark.parametrize("k", [2, 3, 6])
def test_torchjd_gradvac_in_the_same_order(k):
    """Their orders are made from the global generator, one task after the other."""
    theirs, targets = torchjd().GradVacWeighting(beta=0.3), np.zeros((k, k))
    for seed in range(8):
        rows = inputs.conflicting(k, seed)
        torch.manual_seed(seed)
        others = [[j for j in range(k) if j != i] for i in range(k)]
        orders = np.array([[row[p] for p in torch.randperm(k - 1).tolist()] for row in others])
        torch.manual_seed(seed)
        expected = theirs(rows @ rows.T).numpy()
        norms, cosines = scaled((rows @ rows.T).numpy())
        coefficients, targets = vaccinate(cosines, orders, targets, 0.3)
        assert np.allclose((norms @ coefficients) / norms, expected, rtol=1e-5)  # they add 1e-8 to denominators


def test_torchjd_fairgrad_harms_at_large_norm_ratios():
    rows = inputs.unequal(1e6)(4, 3)
    theirs, ours = torchjd().FairGrad(alpha=2.0)(rows), torch.tensor(direction("FairGrad(alpha=2.0)", rows))
    along = [rows @ d / rows.norm(dim=1) / d.norm() for d in (theirs, ours)]
    assert float(along[0].min()) < -0.1
    assert float(along[1].min()) > 0


def test_torchjd_dualproj_harms_from_norm_ratio_30():
    rows = inputs.unequal(30)(3, 0)
    theirs, ours = torchjd().DualProj()(rows), torch.tensor(direction("DualProj()", rows))
    along = [rows @ d / rows.norm(dim=1) / d.norm() for d in (theirs, ours)]
    assert float(along[0].min()) < -0.1
    assert float(along[1].min()) > -1e-8


def test_torchjd_config_follows_rounding_at_a_dead_end():
    directions = [torchjd().ConFIG()(inputs.opposite(2, seed)) for seed in range(1, 5)]
    assert all(0 < float(d.norm()) < 1e-5 for d in directions)


def test_torchjd_gradvac_forgets_its_state():
    theirs, rows = torchjd().GradVac(), inputs.conflicting(3, 0)
    theirs(rows)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        torchjd().GradVac().load_state_dict(theirs.state_dict())


def test_torchjd_krum_adds_distances_instead_of_squares():
    """A triangle of side 3 (3 + 3 = 6, 9 + 9 = 18), and three points at 100 (1 + 4.5 = 5.5, but 1 + 20.25 = 21.25)."""
    side = 3 / math.sqrt(2)
    rows = torch.diag(torch.tensor([side, side, side], dtype=torch.float64))
    line = torch.tensor([[100.0, 0, 0], [101.0, 0, 0], [95.5, 0, 0]], dtype=torch.float64)
    rows = torch.cat([rows, line])
    assert torchjd().KrumWeighting(n_byzantine=2)(rows @ rows.T).tolist() == [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    assert weights("Krum(byzantine=2)", rows).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


# Wrong arguments

WRONG = [
    ("FairGrad(alpha=-1.0)", "alpha=-1.0, expected a finite number >= 0"),
    ("FairGrad(alpha=0.01)", "alpha=0.01, expected 0 (the mean) or a number >= 0.05"),
    ("FairGrad(max_norm=-1.0)", "max_norm=-1.0, expected a finite number >= 0"),
    ("DualProj(pref=(1.0, 0.0))", "DualProj: pref=(1.0, 0.0), expected positive preferences"),
    ("ConFIG(pref=(1.0, -1.0))", "ConFIG: pref=(1.0, -1.0), expected positive preferences"),
    ("ConFIG(length='minimum')", "expected one of 'projection', 'min', 'max', 'harmonic'"),
    ("GradVac(beta=1.5)", "beta=1.5, expected a finite number >= 0 and <= 1"),
    ("Krum(average=0)", "average=0, expected an integer >= 1"),
    ("Krum(byzantine=0.5)", "byzantine=0.5, expected an integer >= 0"),
]


@pytest.mark.parametrize(("spelling", "message"), WRONG)
def test_wrong_arguments(spelling, message):
    with pytest.raises(AccordError) as error:
        parse(spelling)
    assert message in str(error.value)
