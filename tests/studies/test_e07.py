"""E07: part A is exact; part B judged both ways on made-up numbers; overlaps of single images by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from accord.studies import e07_activations as e07
from accord.studies import two_digits
from accord.studies.one_layer import exact
from accord.studies.study import Results, Work

NOISE = (0.01, -0.01, 0.005, 0.0, -0.005)


# Part A


@pytest.mark.parametrize("name", e07.ACTIVATIONS)
def test_one_unit_with_opposite_targets_is_torn_by_every_activation(name):
    assert exact(name, e07.ACTIVATIONS[name]())["same unit"] == -1.0


@pytest.mark.parametrize(("name", "expected"), [("ReLU", 0.0), ("sigmoid", -1.0), ("tanh", 1.0)])
def test_opposite_inputs_on_one_unit(name, expected):
    assert exact(name, e07.ACTIVATIONS[name]())["opposite inputs, unit"] == expected


def test_opposite_inputs_on_a_layer():
    """Disjoint active sets: ReLU exactly 0, tanh exactly +1, sigmoid near -1 (each unit has -1), GELU in between."""
    found = {name: exact(name, act())["opposite inputs, layer"] for name, act in e07.ACTIVATIONS.items()}
    assert (found["ReLU"], found["tanh"]) == (0.0, 1.0)
    assert -1 < found["sigmoid"] < -0.5
    assert abs(found["GELU"]) < 0.5


@pytest.mark.parametrize("name", e07.ACTIVATIONS)
def test_the_layer_against_the_formula(name):
    """``cos = -a.b / |a||b|`` with ``a_j = h(z_j) h'(z_j)`` and b at ``-z_j``."""
    act, draw = e07.ACTIVATIONS[name](), torch.Generator().manual_seed(0)
    x = torch.randn(6, generator=draw, dtype=torch.float64)
    z = (torch.randn(64, 6, generator=draw, dtype=torch.float64) @ x).requires_grad_()
    parts = []
    for sign in (1, -1):
        at = sign * z.detach()
        at.requires_grad_()
        h = act(at)
        (slope,) = torch.autograd.grad(h.sum(), at)
        parts.append((h * slope).detach())
    a, b = parts
    expected = -float(a @ b / a.norm() / b.norm())
    assert exact(name, act)["opposite inputs, layer"] == pytest.approx(expected, abs=1e-9)


# Part B


def results(ratio=3.0, cosine=-0.4, equal=-0.4, relu=-0.1, seeds=5):
    """Sigmoid's lengths and cosines against a ReLU of length 1 and cosine -0.1 at width 32, -0.3 at 8."""
    rows = []
    for seed in range(seeds):
        for width, depth in e07.SHAPES:
            at = {"seed": seed, "kind": "train", "width": width, "depth": depth}
            own = relu if width == 32 else -0.3
            rows.append({**at, "activation": "ReLU", "norm": 1.0, "cosine": own, "cosine at equal loss": own})
            numbers = {"norm": math.exp(NOISE[seed]) / ratio, "cosine": cosine + NOISE[seed]}
            rows.append({**at, "activation": "sigmoid", **numbers, "cosine at equal loss": equal + NOISE[seed]})
    return Results(rows)


def words(found):
    return {claim.name: claim.test.word for claim in e07.judge(found)}


def test_shorter_and_more_opposed_is_supported():
    assert set(words(results()).values()) == {"supported"}


@pytest.mark.parametrize(
    ("numbers", "claim"),
    [
        ({"ratio": 1.3}, "length"),
        ({"ratio": 0.5}, "length"),
        ({"cosine": 0.0}, "direction"),
        ({"equal": 0.0}, "direction at equal loss"),
        ({"relu": -0.35}, "width"),
    ],
)
def test_each_claim_can_be_refused_by_itself(numbers, claim):
    found = words(results(**numbers))
    assert found[claim] == "not supported"
    if claim != "width":
        assert [word for name, word in found.items() if name != claim] == ["supported"] * 3


def test_one_depth_that_says_otherwise_is_enough():
    found = results()
    for row in found.rows:
        if (row["activation"], row["depth"]) == ("sigmoid", 3):
            row["cosine"] = 0.3
    assert words(found)["direction"] == "not supported"


def test_four_seeds_decide_nothing():
    assert set(words(results(seeds=4)).values()) == {"inconclusive"}


def test_the_sabotage_makes_sigmoid_a_relu():
    rows = {row["activation"]: row for row in e07.measure(Work("w=8, d=1", 0, True, e07.SAME))}
    plain = {row["activation"]: row for row in e07.measure(Work("w=8, d=1", 0, True))}
    assert rows["sigmoid"]["cosine"] == rows["ReLU"]["cosine"] == plain["ReLU"]["cosine"]
    assert plain["sigmoid"]["norm"] != plain["ReLU"]["norm"]


def test_all_activations_start_from_the_same_weights():
    nets = [two_digits.Net(0, 8, e07.HIDDEN[3], act) for act in e07.ACTIVATIONS.values()]
    for net in nets[1:]:
        pairs = zip(net.parameters(), nets[0].parameters(), strict=True)
        assert all(torch.equal(p, q) for p, q in pairs)


def test_disjoint_active_units_have_exactly_nothing_in_common():
    """Two units; images 0 and 1 switch on one each: products of the same image are not zero, across images they are."""
    net = two_digits.Net(0, 2, (), nn.ReLU)
    with torch.no_grad():
        layer = net.body[0][0]
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[0, 0], layer.weight[1, 1] = 1.0, 1.0
    count = e07.SINGLE
    x = torch.zeros(count, two_digits.PIXELS)
    x[::2, 0], x[1::2, 1] = 1.0, 1.0
    labels = torch.arange(count) % 10
    found = e07.single(net, two_digits.Part(x, labels, labels.flip(0)))
    assert found["zero overlap, same image"] == 0.0
    assert found["zero overlap, two images"] == pytest.approx((count / 2) / (count - 1))


def test_the_stage_is_read_where_the_loss_falls_first():
    assert e07.crossing([4.0, 2.0, 3.0, 1.0], [0.0, 1.0, 5.0, 2.0], 2.5) == 0.75
    assert np.isclose(e07.crossing([4.0, 2.0], [0.0, 1.0], 2.0), 1.0)
