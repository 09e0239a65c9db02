"""E06: the split is exact, the verdicts follow the numbers both ways, and what is broken on purpose is seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import accord
from accord.studies import e06_branches as e06
from accord.studies.inception import Net, load
from accord.studies.study import Results, Work

SMOKE = Work("c0=2", 0, smoke=True)


def rows(gain=0.0, equal_cost=0.0, matched=0.0, static=0.0, conflict=0.1, own=0.4, seeds=5):
    """Made up: test loss 1 for every arm, and what the arguments change."""
    out = []
    for seed in range(seeds):
        for c0 in e06.WIDTHS:
            for arm in e06.ARMS:
                noise = 0.01 * np.sin(10 * seed + len(arm.name))
                loss = 1.0 + 0.01 * seed - {e06.PCGRAD: gain, e06.MATCHED: matched}.get(arm.name, 0.0)
                loss -= static * (arm.name in e06.STATIC)
                full = (own if arm.name == e06.TARGETS else 0.1) + noise
                row = {"seed": seed, "c0": c0, "arm": arm.name, "test loss": loss + noise, "validation loss": loss}
                row |= {"test loss at equal cost": 1.0 + 0.01 * seed - equal_cost + noise, "full conflict": full}
                row |= {f"conflict, {phase}": conflict + noise for phase in e06.PHASES}
                out.append(row)
    return Results(out)


def words(**changes):
    return {claim.name: claim.test.word for claim in e06.judge(rows(**changes))}


# Exact


def test_the_parts_of_the_branches_are_the_plain_gradient():
    """Weights of one on every branch give the .grad of the plain loop, in stem, branches and head."""
    data, nets = load(0, own=False), [Net(0, 2).double() for _ in range(2)]
    x, labels = data.x[:16].double(), data.labels[:16]
    z = nets[0].stem(x)
    accord.Balancer(nets[0], "Sum()").backward({"loss": nets[0].loss((z, z, z), labels)})
    z = nets[1].stem(x)
    copies = accord.uses(z.detach().requires_grad_(), 3)
    loss = nets[1].loss(copies, labels)
    parts = accord.contributions(loss, copies).parts[0]
    split = {str(b): (z * part[0]).sum() for b, part in enumerate(parts)}
    accord.Balancer(nets[1].stem, "Constant(weights=(1.0, 1.0, 1.0))").backward(split)
    accord.Balancer(nets[1], "Sum()").backward({"loss": loss})
    for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12)


def test_looks_see_the_gradient_of_the_stem():
    data, net = load(0, own=False), Net(0, 2).double()
    data = data._replace(x=data.x.double())
    small, large = e06.look(net, data, torch.arange(32), torch.ones(3, dtype=torch.float64))
    z = net.stem(data.x[:32])
    expected = torch.autograd.grad(net.loss((z, z, z), data.labels[:32]), list(net.stem.parameters()))
    assert small.sum() == pytest.approx(sum(float(g.square().sum()) for g in expected), rel=1e-9)
    assert large.shape == (6, 6)


def test_surgery_of_parts_is_never_steeper_than_their_sum():
    draw = np.random.default_rng(0)
    parts = draw.normal(size=(20, 3, 4))
    found = e06.seen(parts @ parts.swapaxes(1, 2), np.tile(np.eye(6), (20, 1, 1)))
    assert 0 < found["surgery's descent"] < 1


# Verdicts


def test_by_default_only_the_positive_control_holds():
    assert words() == {
        "branches conflict": "not supported", "surgery helps": "not supported", "targets decide": "supported",
    } | {"surgery helps": words()["surgery helps"]}  # fmt: skip
    assert words()["surgery helps"] != "supported"


def test_conflict_flips():
    assert words(conflict=0.45)["branches conflict"] == "supported"


@pytest.mark.parametrize("spoilt", ["equal_cost", "matched", "static"])
def test_surgery_has_to_beat_every_control(spoilt):
    gains = {"gain": 0.3, "equal_cost": 0.3, "matched": 0.3}
    assert words(**gains)["surgery helps"] == "supported"
    assert words(**gains | {spoilt: 0.6 if spoilt == "static" else -0.3})["surgery helps"] == "not supported"
    assert words(gain=-0.3)["surgery helps"] == "not supported"


def test_the_positive_control_can_fail():
    assert words(own=0.1)["targets decide"] == "not supported"


def test_too_few_seeds_decide_nothing():
    assert set(words(seeds=3).values()) == {"inconclusive"}


# Broken on purpose


def test_a_wrong_sign_is_seen():
    parts = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1]])
    sign = np.array([1.0, -1.0, 1.0])
    right = e06.seen(np.stack([parts @ parts.T] * 3), np.stack([np.tile(parts @ parts.T, (2, 2))] * 3))
    flipped = (parts * sign[:, None]) @ (parts * sign[:, None]).T
    wrong = e06.seen(np.stack([flipped] * 3), np.stack([np.tile(flipped, (2, 2))] * 3))
    assert (right["conflict"], wrong["conflict"]) == (0.0, pytest.approx(2 / 3))
    data = load(0, own=False)
    looked = [
        e06.fit(Net(0, 2), data, e06.ARMS[0], Work("c0=2", 0, smoke=True, broken=broken))
        for broken in ("", "wrong sign")
    ]
    assert looked[0]["test loss"] == looked[1]["test loss"]  # the training is the same
    assert looked[0]["cosine"] != looked[1]["cosine"]


def test_the_same_targets_are_the_digit():
    assert (load(0, own=False).labels == load(0, own=False).labels[:, :1]).all()
    own = load(0, own=True)
    assert torch.equal(own.labels[:, 0], load(0, own=False).labels[:, 0])
    assert ((own.labels[:, 1] == own.labels[:, 0]).double().mean() - 0.1).abs() < 0.05
    parts = [set(own.part[name].tolist()) for name in ("train", "test", "validation")]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 1797


def test_equal_seeds_are_equal():
    first, second = (e06.fit(Net(3, 2), load(3, False), e06.ARMS[1], SMOKE) for _ in range(2))
    assert first["test loss"] == second["test loss"]
