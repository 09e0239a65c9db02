"""Every method against a second, independent implementation."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.linalg.coefficients import project_in_turn
from accord.linalg.scaling import scaled
from accord.methods import GradDrop, Weighting, parse
from accord.methods.pcgrad import visits

import inputs
from oracles import methods as slow

SEEDS = range(8)
MILD = {"gaussian": inputs.gaussian, "conflicting": inputs.conflicting, "agreeing": inputs.agreeing}


def direction(spelling: str, rows: torch.Tensor) -> np.ndarray:
    method = parse(spelling)
    assert isinstance(method, Weighting)
    return (method(rows @ rows.T, generator=torch.Generator().manual_seed(0)) @ rows).numpy()


@pytest.mark.parametrize("k", [2, 3, 6])
@pytest.mark.parametrize("label", list(inputs.INPUTS))
def test_pcgrad_on_vectors(k, label):
    """Coefficients alone give what the gradients give, in the same order of visits."""
    for seed in SEEDS:
        rows = inputs.INPUTS[label](k, seed)
        rows = rows[rows.norm(dim=1) > 0]
        if len(rows) < 2:
            continue
        orders = visits(len(rows), torch.Generator().manual_seed(seed))
        norms, cosines = scaled((rows @ rows.T).numpy())
        d = (norms @ project_in_turn(cosines, orders) / norms) @ rows.numpy()
        assert np.allclose(d, slow.pcgrad(rows.numpy(), orders), atol=1e-9 * float(rows.norm()))


def test_pcgrad_visits_in_a_fresh_order():
    """Every task sees all others once; in the long run, every order equally often."""
    generator = torch.Generator().manual_seed(0)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(1200):
        orders = visits(4, generator)
        for i, order in enumerate(orders.tolist()):
            assert sorted(order) == [j for j in range(4) if j != i]
        counts[tuple(orders[0].tolist())] = counts.get(tuple(orders[0].tolist()), 0) + 1
    assert len(counts) == math.factorial(3)
    assert all(abs(count - 200) < 5 * math.sqrt(200) for count in counts.values())


def test_pcgrad_draws_the_visits_it_makes():
    rows = inputs.conflicting(5, 0)
    orders = visits(5, torch.Generator().manual_seed(0))
    assert np.allclose(direction("PCGrad()", rows), slow.pcgrad(rows.numpy(), orders))


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=5, max_size=5), min_size=1, max_size=4), st.sampled_from([0, 0.3])
)
@settings(max_examples=60, deadline=None)
def test_graddrop_by_element(entries, leak):
    rows = torch.tensor(entries, dtype=torch.float64)
    draws = torch.rand(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).numpy()
    d = GradDrop(leak=leak).aggregate(rows, generator=torch.Generator().manual_seed(1))
    assert np.allclose(d.numpy(), slow.graddrop(rows.numpy(), draws, leak), atol=1e-14)


def test_graddrop_averages_to_the_sum():
    rows = inputs.gaussian(3, 0)[:, :20]
    generator, n = torch.Generator().manual_seed(0), 4000
    mean = sum(GradDrop().aggregate(rows, generator=generator) for _ in range(n)) / n
    bound = 5 * rows.abs().sum(0) / math.sqrt(n)  # five standard deviations, each at most half the range
    assert bool(((mean - rows.sum(0)).abs() <= bound).all())


def test_graddrop_keeps_shape_and_dtype():
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        rows = inputs.normal(3, 2, 4, 5, seed=0).to(dtype)
        d = GradDrop().aggregate(rows)
        assert d.shape == (2, 4, 5)
        assert d.dtype == dtype


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("label", list(MILD))
def test_projections_by_enumeration(k, label):
    for seed in SEEDS:
        rows = MILD[label](k, seed)
        assert np.allclose(direction("UPGrad()", rows), slow.upgrad(rows.numpy()), atol=1e-7)
        assert np.allclose(direction("MGDA()", rows), slow.mgda(rows.numpy()), atol=1e-7)


@pytest.mark.parametrize("mode", ["min", "median", "rmse"])
@pytest.mark.parametrize("k", [2, 3, 6])
def test_aligned_by_singular_values(mode, k):
    scale = {"min": np.min, "median": lambda v: np.sort(v)[(len(v) - 1) // 2], "rmse": np.mean}[mode]
    for seed in SEEDS:
        rows = inputs.gaussian(k, seed)
        expected = slow.aligned_mtl(rows.numpy(), scale)
        assert np.allclose(direction(f"AlignedMTL(scale_mode={mode!r})", rows), expected, atol=1e-9)


@pytest.mark.parametrize("c", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("k", [2, 3, 9, 40])
@pytest.mark.parametrize("label", ["gaussian", "conflicting", "agreeing", "ratio 1e3", "ratio 1e6", "opposite"])
def test_cagrad_is_optimal(label, k, c):
    """The primal value of d equals the dual value of the w that it was made with: no better d exists.

    ``max{min_i g_i·d : ‖d − g_0‖ ≤ ϕ} = min_{w∈Δ} g_0·g_w + ϕ‖g_w‖``; every d in the ball and every w in the simplex
    bound the two from below and above. Beyond the radius there is nothing to gain, so the ball must be kept, too.
    """
    for seed in range(3):
        rows = inputs.INPUTS[label](k, seed)
        d = (1 + c**2) * torch.from_numpy(direction(f"CAGrad(c={c})", rows))
        g0 = rows.mean(0)
        phi = c * float(g0.norm())
        assert float((d - g0).norm()) <= phi * (1 + 1e-6)
        primal = float((rows @ d).min())
        w = (1 + c**2) * parse(f"CAGrad(c={c})")(rows @ rows.T) - 1 / k
        if label == "opposite" and not d.any():  # no way out at K = 2; zero is optimal if it lies in the ball
            assert c >= 1
            continue
        assert float(w.min()) >= -1e-9 * float(w.sum())
        gw = w / w.sum() @ rows
        dual = float(g0 @ gw) + phi * float(gw.norm())
        if label == "opposite":  # zero is in the hull, and the objective is zero there
            dual = min(dual, 0.0)
        assert primal == pytest.approx(dual, abs=2e-6 * float(rows.norm(dim=1).max()) * float(g0.norm()))


@pytest.mark.parametrize("label", ["gaussian", "conflicting"])
@pytest.mark.parametrize(
    ("spelling", "build", "factor"),
    [
        ("UPGrad()", lambda peer, k: peer.UPGrad(), 1.0),
        ("PCGrad()", lambda peer, k: peer.PCGrad(), 1.0),
        ("MGDA()", lambda peer, k: peer.MGDA(epsilon=1e-9, max_iters=20000), 1.0),
        ("CAGrad(c=0.5)", lambda peer, k: peer.CAGrad(c=0.5), 1 / (1 + 0.5**2)),  # theirs does not rescale
        ("NashMTL()", lambda peer, k: peer.NashMTL(n_tasks=k), 1.0),
        ("IMTLG()", lambda peer, k: peer.IMTLG(), 1.0),
        ("AlignedMTL()", lambda peer, k: peer.AlignedMTL(), None),  # theirs uses preferences 1/K
    ],
)
def test_torchjd(label, spelling, build, factor):
    """At mild norm ratios; tolerances are those of their solvers and of their regularisation by 1e-4."""
    import torchjd.aggregation as peer

    for k in (2,) if spelling == "PCGrad()" else (2, 4):  # PCGrad: the order of visits matters from 3 on
        rows = MILD[label](k, 3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = build(peer, k)(rows).numpy() * (k if factor is None else factor)
        ours = direction(spelling, rows)
        assert np.linalg.norm(ours - theirs) <= 5e-3 * np.linalg.norm(theirs)


def losses(steps: int, k: int, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [np.exp(generator.normal(size=k)) for _ in range(steps)]


def test_uncertainty_weighting_with_autograd():
    history = losses(30, 3, 0)
    method = parse("UncertaintyWeighting(lr=0.05)")
    found = [method(losses=torch.tensor(values)).numpy() for values in history]
    assert np.allclose(found, slow.uncertainty_weighting(history, 0.05), rtol=1e-12)


def test_famo_with_autograd():
    from accord.methods import Context

    before, after = losses(30, 3, 0), losses(30, 3, 1)
    method = parse("FAMO(lr=0.1, decay=0.01)")
    found, context = [], Context(np.arange(3), 3, torch.Generator())
    for old, new in zip(before, after, strict=True):
        found.append(method(losses=torch.tensor(old)).numpy())
        method.after_step(new, context)
    assert np.allclose(found, slow.famo(before, after, 0.1, 0.01), rtol=1e-9)


@pytest.mark.parametrize("window", [1, 4])
def test_dwa_from_the_whole_history(window):
    history = losses(20, 3, 0)
    method = parse(f"DWA(temperature=0.5, window={window})")
    found = [method(losses=torch.tensor(values)).numpy() for values in history]
    assert np.allclose(found, slow.dwa(history, 0.5, window), rtol=1e-12)


def test_inverse_norm_smooths():
    """By hand: the first weights, then 0.9 of them and 0.1 of the new ones."""
    method = parse("InverseNorm(ema=0.9)")
    assert method(torch.diag(torch.tensor([1.0, 9.0], dtype=torch.float64))).tolist() == pytest.approx([1.5, 0.5])
    second = method(torch.diag(torch.tensor([1.0, 1.0], dtype=torch.float64)))
    assert second.tolist() == pytest.approx([0.9 * 1.5 + 0.1, 0.9 * 0.5 + 0.1])
