"""Methods and engines on task-specific models."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import TASKS, Attending, InPlace, Plain

import accord
from accord.restructure import task_specific

METHODS = ["Sum()", "UPGrad()", "PCGrad()"]


def losses_of(model, x):
    return {task: (y * (1 + i)).square().mean() for i, (task, y) in enumerate(model(x).items())}


def written_out(net, layer, x):
    """Gradients of each task in the shared parameters, and in its own copy, from a model for each task."""
    rows = {}
    for task in TASKS:
        alone = copy.deepcopy(net)
        losses_of(alone, x)[task].backward()
        rows[task] = {name: p.grad for name, p in alone.named_parameters() if not name.startswith("heads.")}
    own = {f"{layer}.{t}{n.removeprefix(layer)}": g for t in TASKS for n, g in rows[t].items() if n.startswith(layer)}
    shared = {n: torch.stack([rows[t][n] for t in TASKS]) for n in rows[TASKS[0]] if not n.startswith(layer)}
    return shared, own


@pytest.mark.parametrize("engine", ["stacked", "segmented"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("make", "layer"), [(Plain, "third"), (Plain, "second"), (Attending, "body.layers.1")])
def test_the_gramian_is_that_of_what_is_shared(make, layer, method, engine):
    torch.manual_seed(0)
    net = make()
    x = torch.randn(9, 6) if make is Plain else torch.randint(1, 11, (4, 5))
    if method == "Sum()" and engine == "segmented":
        pytest.skip("a plain sum has no engine")
    shared, own = written_out(net, layer, x)
    model = task_specific(net, layer, TASKS)
    balancer = accord.Balancer(model, method, engine=engine)
    step = balancer.backward(losses_of(model, x))
    parameters = dict(model.named_parameters())
    flat = torch.cat([rows.flatten(1) for rows in shared.values()], 1).double()
    if step.gramian is not None:
        torch.testing.assert_close(step.gramian, flat @ flat.T, rtol=1e-4, atol=1e-9)
    if step.weights is not None:
        for name, rows in shared.items():
            expected = (step.weights.float() @ rows.flatten(1)).view(rows.shape[1:])
            torch.testing.assert_close(parameters[name].grad, expected, rtol=1e-4, atol=1e-6)
    for name, gradient in own.items():  # each task's own gradient, as for a head
        torch.testing.assert_close(parameters[name].grad, gradient, rtol=1e-4, atol=1e-6)


def test_a_training_with_a_balancer_and_a_monitor():
    torch.manual_seed(0)
    net = InPlace()
    model = task_specific(net, ["down.0", "conv"], TASKS)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    balancer = accord.Balancer(model, "UPGrad()")
    monitor = accord.Monitor(model, every=1, optimizer=optimizer)
    balancer.backward(losses_of(model, torch.randn(3, 3, 8, 8)))
    optimizer.zero_grad()
    x, first = torch.randn(6, 3, 8, 8), None
    for _ in range(20):
        losses = losses_of(model, x)
        monitor.observe(losses)
        balancer.backward(losses)
        optimizer.step()
        optimizer.zero_grad()
        first = first or sum(losses.values()).item()
    assert sum(losses.values()).item() < first
    assert not set(monitor.record().blocks) & {"conv", "down.0", *(f"conv.{task}" for task in TASKS)}


def test_losses_by_task_go_to_a_balancer():
    torch.manual_seed(0)
    model = task_specific(Plain(), "second", TASKS)
    x = torch.randn(9, 6)
    step = accord.Balancer(model, "UPGrad()").backward(model.by_task(lambda: losses_of(model, x)))
    assert step.tasks == TASKS
