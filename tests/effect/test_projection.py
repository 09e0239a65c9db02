"""Projections of gradients and of steps: against the definition, and against a solver that tries everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import accord
from accord import conflict
from accord.effect import StepProjection, project
from accord.effect.projection import multipliers
from accord.errors import AccordError


def parts(vector):
    return [vector[:3].clone(), vector[3:].reshape(2, 2).clone()]


def whole(tensors):
    return torch.cat([t.flatten() for t in tensors])


@given(st.integers(0, 200))
def test_project_leaves_nothing_along_the_other_one(seed):
    a, b = torch.randn(2, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for when in ("conflict", "always"):
        found = whole(project(parts(a), parts(b), when=when))
        if when == "conflict" and a @ b >= 0:
            assert torch.equal(found, a)
        else:
            assert abs(float(found @ b)) < 1e-12
            torch.testing.assert_close(found, a - (a @ b) / (b @ b) * b)


def test_project_needs_a_direction():
    a = [torch.tensor([-1.0, 2.0])]
    assert project(a, [torch.zeros(2)], when="always")[0].tolist() == [-1, 2]
    assert project(a, [torch.tensor([torch.nan, 1.0])], when="always")[0].tolist() == [-1, 2]
    assert project(a, [torch.zeros(2)])[0] is not a[0]
    assert project([], []) == []


def test_project_refuses():
    a = [torch.ones(2)]
    with pytest.raises(AccordError, match="one of conflict, always"):
        project(a, a, when="never")
    with pytest.raises(AccordError, match="list with one tensor"):
        project(a[0], a[0])
    with pytest.raises(AccordError, match="same parameters"):
        project(a, [torch.ones(3)])


def brute(rows, s):
    """The nearest point of ``{s: Js <= 0}``: the best one over all sets of active constraints."""
    best = None
    for size in range(len(rows) + 1):
        for chosen in itertools.combinations(range(len(rows)), size):
            part = rows[list(chosen)]
            point = s - np.linalg.pinv(part) @ (part @ s) if size else s
            if (rows @ point).max() <= 1e-9 and (best is None or np.sum((point - s) ** 2) < np.sum((best - s) ** 2)):
                best = point
    return best


@given(st.integers(0, 100))
def test_the_corrected_step_is_the_nearest_harmless_one(seed):
    random = np.random.default_rng(seed)
    rows, s = random.normal(size=(3, 5)) * [[1], [10], [0.1]], random.normal(size=5)
    found = s - multipliers(rows @ rows.T, rows @ s) @ rows
    np.testing.assert_allclose(found, brute(rows, s), atol=1e-6)


def test_tasks_without_a_gradient_take_no_part():
    gramian = np.array([[1.0, 0.0, np.nan], [0.0, 0.0, np.nan], [np.nan] * 3])
    found = multipliers(gramian, np.array([2.0, 1.0, np.nan]))
    np.testing.assert_allclose(found, [2, 0, 0], rtol=1e-6)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.a, self.b = nn.Linear(5, 3), nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, x):
        z = torch.tanh(self.body(x))
        return {"a": (self.a(z) - 1).square().mean(), "b": (self.b(z) - x[:, :1]).square().mean()}


def trained(guarded, method="Sum()", steps=60):
    torch.manual_seed(0)
    model, batches = Net().double(), torch.randn(steps, 4, 5).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    balancer = accord.Balancer(model, method)
    guard = StepProjection(balancer, optimizer) if guarded else None
    monitor = accord.Monitor(model, every=1, optimizer=optimizer)
    monitor.attach(balancer)
    for x in batches:
        balancer.backward(model(x))
        optimizer.step()
        optimizer.zero_grad()
    return model, conflict.lines(monitor.record())["step"].rate().value, guard


def test_steps_of_adam_harm_and_projected_ones_do_not():
    _, plain, _ = trained(False)
    _, after, guard = trained(True)
    assert plain.max() > 0.05
    assert (after == 0).all()
    assert guard.steps == 60
    assert 0 < guard.changed < 60


def test_harmless_steps_are_left_alone():
    """A single task under plain SGD: its step serves it."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    balancer = accord.Balancer(model, "Sum()", shared=["body"])
    guard = StepProjection(balancer, optimizer)
    balancer.backward({"a": model(torch.randn(4, 5))["a"]})
    optimizer.step()
    optimizer.step()  # without a backward pass there is nothing to look at
    assert (guard.steps, guard.changed) == (1, 0)
