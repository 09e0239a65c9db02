"""The audit of auxiliary losses at the equilibrium of the main one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from accord.equilibrium import Push, equilibrium, t_interval
from accord.errors import AccordError

DATA = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor([3.0, 1, 1])


def draw(n):
    return lambda generator: DATA[torch.randint(len(DATA), (n,), generator=generator)]


def far(generator):
    return 4 + torch.randn(256, 3, generator=generator, dtype=torch.float64)


def moments(n):
    return lambda x, generator: (x.mean(0) - draw(n)(generator).mean(0)).square().sum()


def pairs(x, generator):
    return (x - draw(len(x))(generator)).square().sum(1).mean()


def inward(x):
    return x.mean(0) - x


def test_a_loss_between_means_is_at_rest_and_one_between_pairs_pushes_to_the_mean():
    found = equilibrium({"moments": moments(256), "pairs": pairs}, draw(256), far, towards=inward)
    assert found["moments"].interval[1] < 0.1
    assert found["pairs"].interval[0] > 0.4
    # x - y for independent x, y of one distribution: the cosine of y - x with E y - x is 1/sqrt(2).
    assert found["pairs"].direction == pytest.approx(2**-0.5, abs=0.03)
    low, high = found["pairs"].direction_interval
    assert low < found["pairs"].direction < high
    assert abs(found["moments"].direction) < 0.2  # the noise of a mean pushes all points alike, not together


def test_sampling_noise_shrinks_with_the_root_of_the_sample_and_a_push_does_not():
    def sizes(n):
        found = equilibrium({"moments": moments(n), "pairs": pairs}, draw(n), far, draws=32)
        return [float(push.near.mean()) * math.sqrt(n) for push in found.values()]  # per point

    few, many = sizes(64), sizes(1024)
    assert few[0] / many[0] == pytest.approx(4.0, rel=0.25)
    assert few[1] / many[1] == pytest.approx(1.0, rel=0.1)


def test_gradients_are_those_of_the_formula():
    """``∇ mean_n ‖x_n − y_n‖² = 2 (x − y)/N``, of which norm and direction are computed by hand."""
    target = torch.full((5, 3), 2.0, dtype=torch.float64)
    here, there = torch.zeros(5, 3, dtype=torch.float64), torch.full((5, 3), 6.0, dtype=torch.float64)
    found = equilibrium(
        {"a": lambda x, g: (x - target).square().sum(1).mean()},
        lambda g: here, lambda g: there, towards=lambda x: torch.ones_like(x), draws=8,
    )["a"]  # fmt: skip
    assert found.near.tolist() == pytest.approx([2 / 5 * math.sqrt(15 * 4)] * 8)
    assert found.far.tolist() == pytest.approx([2 / 5 * math.sqrt(15 * 16)] * 8)
    assert found.ratio == pytest.approx(0.5)
    assert found.direction == pytest.approx(1.0)
    assert found.interval == pytest.approx((0.5, 0.5))


def test_networks_inside_the_losses_stay_as_they_are():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh()).double()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    points = DATA[:64].clone()
    found = equilibrium(
        {"features": lambda x, g: (net(x).mean(0) - net(DATA).mean(0)).square().sum()}, lambda g: points, far, draws=8
    )
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.equal(points, DATA[:64])
    x = points.clone().requires_grad_()
    (expected,) = torch.autograd.grad((net(x).mean(0) - net(DATA).mean(0)).square().sum(), x)
    assert found["features"].near.tolist() == pytest.approx([float(expected.norm())] * 8)


def test_equal_seeds_give_equal_numbers():
    first, second, other = (equilibrium({"p": pairs}, draw(32), far, seed=seed, draws=8)["p"] for seed in (1, 1, 2))
    assert torch.equal(first.near, second.near)
    assert not torch.equal(first.near, other.near)


def test_exactly_at_rest_is_zero_and_has_no_direction():
    push = equilibrium({"a": lambda x, g: (x - 1).relu().sum()}, lambda g: DATA[:4] * 0, far, towards=inward, draws=8)[
        "a"
    ]
    assert push.ratio == 0
    assert math.isnan(push.direction)


def test_the_interval_is_students():
    scipy = pytest.importorskip("scipy.stats")
    for n in (8, 12, 40):
        values = torch.rand(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
        expected = scipy.t.interval(0.95, n - 1, float(values.mean()), float(scipy.sem(values.numpy())))
        low, high = t_interval(values)
        assert low + high == pytest.approx(sum(expected))
        assert high - low == pytest.approx(expected[1] - expected[0], rel=4e-3)
    push = Push(torch.ones(8), torch.full((8,), 2.0), torch.full((8,), torch.nan))
    assert push.interval == (0.5, 0.5)


@pytest.mark.parametrize(
    ("losses", "options", "message"),
    [
        ({}, {}, "at least one loss"),
        ({"p": pairs}, {"draws": 7}, "draws=7, expected an integer >= 8"),
        ({"p": lambda x, g: x.detach().sum()}, {}, "'p' does not depend on the points"),
        ({"p": lambda x, g: (x * 0).sum()}, {}, "so there is nothing to compare with"),
        ({"p": pairs}, {"near": lambda g: torch.ones(3, 2, dtype=torch.long)}, "numbers, found torch.int64"),
    ],
)  # fmt: skip
def test_mistakes(losses, options, message):
    options = {"near": draw(8), "draws": 8} | options
    near = options.pop("near")
    with pytest.raises(AccordError, match=message):
        equilibrium(losses, near, far, **options)
