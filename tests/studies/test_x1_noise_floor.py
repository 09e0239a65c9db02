"""X1: verdicts on made-up rows both ways, a tiny run in which the halves are truly the same, and the exact parts."""

from __future__ import annotations

import numpy as np
import torch

from accord.studies import two_digits
from accord.studies import x1_noise_floor as x1
from accord.studies.study import Results, Work

GOOD = {
    "full cosine": -0.6, "raw cosine": -0.3, "corrected cosine": -0.59, "passed": 8, "inside": 8, "naive inside": 3,
    "raw error": 2.0, "corrected error": 0.5, "null": 0.4,
}  # fmt: skip


def results(seeds=5, **changed):
    """Two places with numbers that agree with every claim, but for those that are changed."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        for batch in (16, 256):
            row = {"seed": seed, "width": 4, "step": 10, "batch": batch} | GOOD | changed
            row["null"] += rng.normal() / 100
            rows.append(row)
    return Results(rows)


def words(found):
    return {claim.name: claim.test.word for claim in x1.judge(found)}


def test_every_claim_can_turn_out_both_ways():
    assert set(words(results()).values()) == {"supported"}
    opposite = results(inside=4, **{"naive inside": 8, "raw cosine": -0.58, "corrected error": 3.0, "null": 0.1})
    assert set(words(opposite).values()) == {"not supported"}
    assert set(words(results(seeds=4)).values()) == {"inconclusive"}


def test_coverage_counts_windows_that_passed_alone():
    few = results(passed=2, inside=2)
    assert words(few)["coverage"] == "supported"
    assert words(results(passed=0, inside=0))["coverage"] == "inconclusive", "nothing passed: nothing is known"


def test_attenuation_leaves_unclear_pairs_out():
    assert words(results(**{"full cosine": 0.05, "raw cosine": 0.0}))["attenuation"] == "inconclusive"
    assert words(results(**{"full cosine": 0.5, "raw cosine": 0.2}))["attenuation"] == "supported"


def test_one_batch_twice_really_is_one():
    """Broken on purpose: both halves are equal, so a task never conflicts with itself; whole, it does."""
    for broken in ("", x1.TWICE):
        rows = x1.measure(Work("w=4", 3, smoke=True, broken=broken))
        small = [row for row in rows if row["batch"] == 16]
        assert any(row["null"] > 0 for row in small) == (not broken)
        if broken:
            assert all(row["band"] == 0 and row["null"] == 0 for row in rows)


def test_the_full_batch_is_the_expectation_of_the_draws():
    """The mean product across halves tends to the product of the full-batch gradients, heads not among them."""
    given = two_digits.data(0, train=32, validation=8, test=8)
    net = two_digits.Net(0, 4, hidden=(8,)).double()
    part = two_digits.Part(given.train.x.double(), given.train.t1, given.train.t2)
    full = x1._gramians(net, part, [torch.arange(32)], [])[0]
    losses = two_digits.losses(net, part.x, part.t1, part.t2)
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.body.parameters()), retain_graph=True)])
        for loss in losses.values()
    ]
    np.testing.assert_allclose(full, [[float(a @ b) for a in rows] for b in rows], rtol=1e-9)
    draws = x1._windows(net, part, 32, torch.Generator().manual_seed(0), 10, twice=False)
    across = draws.reshape(-1, 4, 4)[:, :2, 2:]  # (T, 2, 2)
    error = across.std(0) / np.sqrt(len(across))
    assert (np.abs(across.mean(0) - full) < 4 * error).all()


def test_moments_are_those_of_one_training():
    given = two_digits.data(1, train=64, validation=8, test=8)
    first, later = x1._moments(given, 4, (0, 3))
    fresh = two_digits.Net(1, 4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), fresh.parameters(), strict=True))
    two_digits.train(fresh, given, steps=3)
    assert all(torch.equal(a, b) for a, b in zip(later.parameters(), fresh.parameters(), strict=True))
