"""Costs against counts by hand."""

from __future__ import annotations

import torch
from networks import TASKS, Plain
from torch import nn

from accord.restructure import cost, task_specific


def test_parameters_and_operations():
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    plain = sum(p.numel() for p in net.parameters())
    found = cost(task_specific(net, "2", TASKS), torch.ones(10, 8))
    layers = [2 * 10 * a * b for a, b in ((8, 16), (16, 16), (16, 4))]
    assert found.parameters == (plain, plain + 2 * (16 * 16 + 16))
    assert found.flops == (sum(layers), layers[0] + 3 * (layers[1] + layers[2]))  # what follows runs for each task


def test_heads_run_for_their_own_task():
    model = task_specific(Plain(), "third", TASKS)
    state = {name: buffer.clone() for name, buffer in model.named_buffers()}
    shared, split = cost(model, torch.randn(10, 6)).flops
    head, third = 2 * 10 * 8 * 2, 2 * 10 * 8 * 8
    # one more `third` for each further task; a head once for its own task, and once without a graph before that
    assert split - shared <= 2 * third + 2 * head + head
    assert all(torch.equal(state[name], buffer) for name, buffer in model.named_buffers())


def test_as_text():
    model = task_specific(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "0", ("a", "b"))
    lines = str(cost(model)).splitlines()
    assert lines[0].split() == ["shared", "task-specific", "added"]
    assert lines[1].split() == ["parameters", "12", "18", "+6", "+50.0%"]
    assert len(lines) == 2
