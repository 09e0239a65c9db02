"""E12: the mixture of kernels is the mixture of operations; claims flip; what is broken on purpose shows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import relu

import accord
from accord import latency
from accord.studies import e12_architecture_search as e12
from accord.studies.mixed_edges import EDGES, OPERATIONS, Mixed, scans, table, train_anew
from accord.studies.study import Results, Work


def made(*, priority=0.0, stopped=None, total=0.0, chance=0.0, angles=(-0.1, -0.6), wrong=0.0):
    """Results by hand, over five seeds: errors of the methods are 0.1 minus these gains, at equal costs."""
    rows = []
    for seed in range(5):
        wiggle = 0.001 * seed
        for at, pressure in enumerate(e12.PRESSURES):
            short = priority if stopped is None else stopped  # at equal time
            for method, gain in ((e12.SUM, total), (e12.FIRST, priority), (e12.STOPPED, short), ("random", chance)):
                row = {"seed": seed, "method": method, "point": at, "pressure": pressure, "cost": 0.1 * (at + 1)}
                cosine = float(np.interp(at, (0, 4), angles)) + wiggle
                rows.append(row | {"error": 0.1 - gain - wiggle, "cosine whole": cosine})
        for at in range(5):  # the first one has no operation at all
            rows.append({"seed": seed, "method": "uniform", "point": at, "cost": at / 4, "error": 0.4 - 0.05 * at})
        rows.append({"seed": seed, "method": e12.LAST, "point": 0, "cost": wrong, "error": 0.4})
    return Results(rows)


def words(results):
    return {claim.name: claim.test.word for claim in e12.judge(results)}


def test_claims_can_turn_out_both_ways():
    assert words(made(priority=0.05, total=0.02)) == dict.fromkeys(
        ("pressure", "front", "search", "order"), "supported"
    )
    assert words(made(total=0.05, chance=0.08, angles=(-0.6, -0.1), wrong=0.3)) == dict.fromkeys(
        ("pressure", "front", "search", "order"), "not supported"
    )


def test_a_priority_that_wins_over_the_sum_but_not_over_chance_is_no_success():
    assert words(made(priority=0.05, total=0.02, chance=0.08))["front"] == "not supported"
    assert words(made(priority=0.02, total=0.05))["search"] == "supported"  # the sum's search was worth it


def test_a_priority_that_wins_by_its_time_alone_or_by_next_to_nothing_is_no_success():
    assert words(made(priority=0.05, stopped=0.02, total=0.02))["front"] == "not supported"
    assert words(made(priority=0.025, total=0.02))["front"] == "not supported"  # half a point of error


def test_equal_fronts_are_no_gain_and_undefined_angles_decide_nothing():
    assert words(made())["front"] == "not supported"
    assert words(made(angles=(math.nan, math.nan)))["pressure"] == "inconclusive"
    four = Results([row for row in made(priority=0.05).rows if row["seed"] < 4])
    assert set(words(four).values()) == {"inconclusive"}


def test_the_hypervolume_is_that_beyond_no_operation_at_all():
    results = made(priority=0.05)
    first = results.where(method=e12.FIRST, seed=0)
    error = 0.05  # of all five; the cheapest at cost 0.1 covers the others
    assert len(first) == 5
    assert e12.volumes(results, e12.FIRST)[0] == pytest.approx((0.4 - error) * (e12.DEAREST - 0.1))
    worse = Results([{**row, "error": 0.9} if row["method"] == e12.SUM else row for row in results.rows])
    assert e12.volumes(worse, e12.SUM).tolist() == [0.0] * 5


def test_one_convolution_is_the_mixture_of_all_operations():
    net = Mixed(0).double().eval()
    with torch.no_grad():
        net.alpha.copy_(torch.randn(net.alpha.shape, generator=torch.Generator().manual_seed(1)))
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    h = relu(net.norms[EDGES](net.stem(x)))
    for e, edge in enumerate(net.edges):
        p = net.alpha[e].softmax(0)
        h = relu(net.norms[e](sum(p[o] * op(h) for o, op in enumerate(edge))))
    slow, fast = net.head(h.mean((2, 3))), net(x)
    assert torch.allclose(slow, fast, atol=1e-12)
    ours = torch.autograd.grad(fast.square().sum(), list(net.parameters()))
    theirs = torch.autograd.grad(slow.square().sum(), list(net.parameters()))
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(ours, theirs, strict=True))


def test_decided_networks_cost_what_the_table_says():
    net = Mixed(0)
    with torch.no_grad():
        net.alpha[0, 2] = net.alpha[1, 4] = net.alpha[2, 1] = 99.0
    assert net.decided() == ("dw3x3", "5x5", "1x1")
    expected = latency.expected(net.alpha, table())
    assert expected.item() == pytest.approx((4608 + 102400 + 4096) / (3 * 102400))
    assert float(table()[0, OPERATIONS.index("5x5")]) == pytest.approx(1 / 3)


def test_alpha_is_all_that_the_losses_share():
    net, data = Mixed(0), scans(0)
    e12.only_alpha(net, True)
    losses = {"accuracy": net(data.choice[0][:8]).logsumexp(1).mean(), "cost": latency.expected(net.alpha, table())}
    step = accord.Balancer(net, e12.FIRST).backward(losses)
    assert [name for name, p in net.named_parameters() if p.grad is not None] == ["alpha"]
    assert step.descent[0, 0] >= -1e-9  # the cost does not work against accuracy


def test_data_are_disjoint_and_belong_to_the_seed():
    one, two = scans(0), scans(0)
    assert all(torch.equal(a, b) for a, b in zip(one.weights, two.weights, strict=True))
    assert [len(part[0]) for part in (one.weights, one.choice, one.test)] == [600, 600, 597]
    assert not torch.equal(one.test[1], scans(1).test[1])
    shuffled = scans(0, shuffled=True)
    assert torch.equal(shuffled.test[1], one.test[1])
    assert not torch.equal(shuffled.train[1], one.train[1])
    assert sorted(shuffled.train[1].tolist()) == sorted(one.train[1].tolist())


def test_training_anew_learns_and_is_the_same_every_time():
    data = scans(0)
    one = train_anew(("skip", "dw3x3", "skip"), data, 0, 40)
    assert one == train_anew(("skip", "dw3x3", "skip"), data, 0, 40)
    assert one < 0.8  # chance is 0.9


def test_what_is_broken_shows(monkeypatch):
    monkeypatch.setattr(e12, "SEARCH", 12)
    data, start = scans(0), Mixed(0)

    def found(method, broken=""):
        return e12.search(start, data, method, 3.0, Work("searches", 0, broken=broken))

    whole = found(e12.FIRST)
    assert -1 <= whole.measures["cosine whole"] <= 1
    assert math.isnan(found(e12.FIRST, e12.NO_COST).measures["cosine whole"])
    assert math.isnan(found(e12.FIRST, e12.NO_COST).measures["conflict"])
    assert found(e12.SUM).measures["cosine"] != whole.measures["cosine"]
    assert found(e12.FIRST).way == whole.way
    assert len(whole.way) == 12


def test_without_projection_the_arms_are_one():
    rows = e12.measure(Work("searches", 0, smoke=True, broken=e12.NO_PROJECTION))
    for at in range(len(e12.PRESSURES)):
        a, b = (next(r for r in rows if r["method"] == m and r["point"] == at) for m in (e12.SUM, e12.FIRST))
        assert all(a[name] == b[name] for name in ("architecture", "error", "cosine", "cosine whole"))
