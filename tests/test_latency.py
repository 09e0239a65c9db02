"""The expected cost against a sum over all architectures, counts against the formulas, times for their side effects."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

import accord
from accord import latency
from accord.errors import AccordError


def slow(logits, costs):
    """The mean cost over all architectures, each as likely as the product of its operations' probabilities."""
    total = 0.0
    for choice in product(*(range(len(alpha)) for alpha in logits)):
        likely, cost = 1.0, 0.0
        for alpha, price, o in zip(logits, costs, choice, strict=True):
            likely *= float(alpha.exp()[o] / alpha.exp().sum())
            cost += float(price[o])
        total += likely * cost
    return total


def test_expected_cost_is_the_mean_over_all_architectures():
    generator = torch.Generator().manual_seed(0)
    alpha = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    costs = torch.rand(3, 4, dtype=torch.float64, generator=generator)
    assert float(latency.expected(alpha, costs)) == pytest.approx(slow(alpha, costs), rel=1e-12)
    uneven = [alpha[0], alpha[1, :2], alpha[2, :1]], [costs[0], costs[1, :2], costs[2, :1]]
    assert float(latency.expected(*uneven)) == pytest.approx(slow(*uneven), rel=1e-12)


def test_its_gradient_is_the_formula_and_sums_to_zero_on_each_edge():
    generator = torch.Generator().manual_seed(1)
    alpha = torch.randn(2, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    costs = torch.rand(2, 5, dtype=torch.float64, generator=generator)
    latency.expected(alpha, costs).backward()
    p = alpha.detach().softmax(1)
    assert torch.allclose(alpha.grad, p * (costs - (p * costs).sum(1, keepdim=True)), atol=1e-14)
    assert torch.allclose(alpha.grad.sum(1), torch.zeros(2, dtype=torch.float64), atol=1e-14)
    assert torch.autograd.gradcheck(lambda a: latency.expected(a, costs), alpha)


def test_laws_of_the_expected_cost():
    alpha, costs = torch.randn(3, 4), torch.rand(3, 4)
    here = latency.expected(alpha, costs)
    assert torch.allclose(latency.expected(alpha + 5.0, costs), here, atol=1e-5)  # softmax knows differences only
    assert torch.allclose(latency.expected(alpha, 2 * costs), 2 * here)
    assert torch.allclose(latency.expected(alpha, costs + 1), here + 3)  # one operation on each of three edges
    order = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(latency.expected(alpha[:, order], costs[:, order]), here)
    decided = 1000 * torch.eye(4)[:3]
    assert latency.expected(decided, costs) == costs[[0, 1, 2], [0, 1, 2]].sum()


def test_only_the_architecture_is_reached():
    alpha = torch.zeros(1, 2, requires_grad=True)
    value = latency.expected(alpha, torch.tensor([[0, 10]]))  # whole numbers are costs, too
    assert value.item() == 5.0
    assert value.dtype == alpha.dtype


@pytest.mark.parametrize(
    ("module", "shape", "found"),
    [
        (nn.Identity(), (2, 8, 4, 4), 0),
        (nn.Conv2d(8, 6, 1, bias=False), (2, 8, 4, 4), 2 * 6 * 8 * 16),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), (1, 8, 4, 4), 8 * 9 * 16),
        (nn.Conv2d(8, 8, 5, padding=2, stride=2), (1, 8, 4, 4), 8 * 8 * 25 * 4),
        (nn.Linear(3, 7), (5, 3), 5 * 3 * 7),
        (nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 2)), (5, 3), 5 * (21 + 14)),
        (nn.BatchNorm2d(8), (2, 8, 4, 4), 0),
    ],
)
def test_macs_are_those_of_the_formula(module, shape, found):
    assert latency.macs(module, shape) == found


def test_looking_changes_nothing():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    noise = torch.get_rng_state()
    latency.macs(model, (4, 2, 5, 5))
    assert latency.milliseconds(model, (4, 2, 5, 5), runs=2, warm_up=0) > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), noise)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_milliseconds_is_a_median_without_the_warm_up(monkeypatch):
    clock = iter([0.0, 10.0, 10.001, 20.0, 20.002, 30.0, 35.0])  # one run for warming up, then 1, 2 and 5000
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(clock))
    assert latency.milliseconds(nn.Identity(), (1,), runs=3, warm_up=1) == pytest.approx(2.0)


def test_several_inputs_and_other_types():
    class Product(nn.Module):
        def forward(self, a, b):
            return a @ b

    assert latency.macs(Product(), (2, 3), (3, 5)) == 30
    assert latency.macs(nn.Linear(3, 2).double(), (1, 3)) == 6


def test_as_an_objective_of_a_balancer():
    """Both objectives meet in the architecture only, and priority keeps the cost from working against the loss."""
    alpha = nn.Parameter(torch.tensor([[0.0, 0.0, 0.0]]))
    model = nn.Module()
    model.alpha = alpha
    balancer = accord.Balancer(model, "Lexicographic()")
    worth = (alpha.softmax(1) * torch.tensor([0.0, -1.0, -2.0])).sum()
    step = balancer.backward({"loss": worth, "cost": 5 * latency.expected(alpha, torch.tensor([[0.0, 1.0, 2.0]]))})
    assert accord.conflict.cosine(step.gramian)[0, 1] == pytest.approx(-1.0)
    assert step.descent[0, 0] > 0
    assert alpha.grad[0, 2] < 0  # towards the dear operation: the cost had no say


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda: latency.expected(torch.zeros(2, 3), torch.zeros(1, 3)), "2 edges have logits and 1 have costs"),
        (lambda: latency.expected(torch.zeros(2, 3), torch.zeros(2, 2)), "edge 0 has logits"),
        (lambda: latency.expected([], []), "no edge"),
        (lambda: latency.macs(nn.Identity()), "no shape"),
        (lambda: latency.milliseconds(nn.Identity(), (1,), runs=0), "runs=0"),
        (lambda: latency.milliseconds(nn.Identity(), (1,), warm_up=-1), "warm_up=-1"),
    ],
)
def test_mistakes_are_named(call, found):
    with pytest.raises(AccordError, match=found):
        call()
