"""E03: the exact part, verdicts from numbers made by hand, and a run without projection."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import accord
from accord import conflict
from accord.studies import e03_surgery, two_digits
from accord.studies.e03_surgery import FIRST, MATCHED, METHODS, NARROW, SPARED, SURGERY, WIDER
from accord.studies.study import Results, Work


class Scalar(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self):
        return {"T1": (self.a - 1).square().sum(), "T2": (self.a + 1).square().sum()}


@pytest.mark.parametrize("method", [SPARED, "AGEM(main=1)"])
def test_one_shared_scalar_stalls_exactly(method):
    """Part A: the projected gradient is zero on all of the way, so T1 never has a say and T2 ends where it wants."""
    model = Scalar()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    balancer = accord.Balancer(model, method)
    monitor = accord.Monitor(model, every=1, optimizer=optimizer)
    monitor.attach(balancer)
    for _ in range(30):
        balancer.backward(model())
        optimizer.step()
        optimizer.zero_grad()
    gramian = monitor.record().gramian[:20]  # later T2 has nearly arrived
    left = conflict.survival(gramian, accord.parse(method).corrected(gramian))
    np.testing.assert_allclose(left[:, 0], 0, atol=1e-4)
    np.testing.assert_allclose(left[:, 1], 1, atol=1e-9)
    assert abs(model.a.item() + 1) < 1e-6
    assert model()["T1"].item() == pytest.approx(4, rel=1e-5)  # at the start it was 1


def test_symmetric_surgery_of_one_shared_scalar_does_not_move_at_all():
    model = Scalar()
    accord.Balancer(model, "PCGrad()").backward(model())
    assert model.a.grad.abs().item() < 1e-12


def results(seeds=5, **losses):
    """Rows of all arms; ``losses`` gives (T1, T2) by arm with underscores, at the narrow width."""
    arms = [*METHODS.values(), MATCHED, *list(e03_surgery.SWEEP)[1:], "T1 alone", "T2 alone"]
    default = {METHODS[SPARED]: (2.3, 1.0), "T1 alone": (1.2, 2.3)}
    rows = []
    for seed in range(seeds):
        for width in (NARROW, WIDER):
            for arm in arms:
                t1, t2 = {**default, **losses}.get(arm, (1.8, 1.7)) if width == NARROW else (0.5, 0.4)
                t1, t2 = t1 + 0.01 * seed, t2 + 0.01 * seed
                worst = max(t1, t2)
                rows.append({
                    "seed": seed, "width": width, "arm": arm, "T1 loss": t1, "T2 loss": t2, "total loss": t1 + t2,
                    "worst loss": worst, "worst validation loss": worst, "worst validation loss at equal cost": worst,
                    "T1 accuracy": 0.5, "T2 accuracy": 0.5, "ms/step": 1.0, "step": [1, 2],
                    "T1 loss curve": [2.3, t1], "T2 loss curve": [2.3, t2],
                    "T1 survival": 0.6 if width == NARROW else 0.9, "T2 survival": 1.0,
                })  # fmt: skip
    return Results(rows)


def words(found):
    return {claim.name: claim.test.word for claim in e03_surgery.judge(found)}


def test_the_verdicts_of_the_pilots_numbers():
    assert words(results()) == {
        "stall": "supported",
        "hidden": "supported",
        "alarm": "supported",
        "benefit w=2": "not supported",
        "benefit w=8": "not supported",
    }
    assert set(words(results(seeds=4)).values()) == {"inconclusive"}


def test_the_stall_can_fall():
    assert words(results(**{METHODS[SPARED]: (1.9, 1.4)}))["stall"] == "not supported"
    impossible = words(results(**{"T1 alone": (math.log(10), 2.3)}))
    assert impossible["stall"] == "not supported", "a task that cannot be learnt alone is not stalled by surgery"
    assert words(results(**{METHODS[SPARED]: (2.3, 1.7)}))["hidden"] == "not supported"


def test_surgery_has_to_beat_every_control():
    better = {METHODS[SURGERY]: (1.5, 1.5), MATCHED: (1.5, 1.5)}
    assert words(results(**better))["benefit w=2"] == "supported"
    assert words(results(**better, **{"2:1": (1.4, 1.4)}))["benefit w=2"] == "not supported"
    assert words(results(**{**better, MATCHED: (1.8, 1.8)}))["benefit w=2"] == "not supported"


def test_pictures_and_tables_of_all_arms():
    found = results()
    assert len(e03_surgery.charts(found)) == 4
    reached, seen = e03_surgery.tables(found)
    assert len(reached.rows) == 24
    assert len(seen.rows) == 20


def test_without_projection_there_is_nothing_to_find():
    data = two_digits.data(0, train=300, validation=60, test=60)

    def run(method, broken=""):
        work = Work("w=2", 0, smoke=True, broken=broken)
        return e03_surgery.arm(work, data, 2, METHODS[method], method=method)

    plain, spared, first = run("Sum()"), run(SPARED), run(FIRST)
    assert spared["T1 loss"] != first["T1 loss"]
    assert spared["T2 survival"] == first["T1 survival"] == 1
    broken = run(SPARED, "no projection")
    assert broken["T1 loss"] == plain["T1 loss"]
    assert math.isnan(broken["T1 survival"])
