"""Task-specific models under checkpoints, autocast, own functions of autograd, and other modes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from accord.errors import AccordError
from accord.restructure import task_specific

TASKS = ("p", "q")


class Net(nn.Module):
    """Three layers, of which some are checkpointed, together or alone."""

    def __init__(self, together=()):
        super().__init__()
        self.a = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5))
        self.b, self.c, self.together = nn.Linear(8, 8), nn.Linear(8, 2), together

    def forward(self, x):
        if self.together:
            h = checkpoint(lambda z: self.b(torch.tanh(self.a(z))), x, use_reentrant=False)
        else:
            h = checkpoint(self.b, checkpoint(self.a, x, use_reentrant=False), use_reentrant=False)
        return self.c(h)


def gradients(model, outputs):
    loss = sum((i + 1) * y.square().mean() for i, y in enumerate(outputs.values()))
    return torch.autograd.grad(loss, list(model.parameters()))


def without_checkpoints(monkeypatch):
    import test_restructure_contexts as here

    monkeypatch.setattr(here, "checkpoint", lambda function, *args, use_reentrant: function(*args))


@pytest.mark.parametrize(("layer", "together"), [("b", False), ("c", False), ("c", True)])
def test_checkpoints(monkeypatch, layer, together):
    torch.manual_seed(0)
    net, x = Net(together), torch.randn(5, 4)
    twin = copy.deepcopy(net)
    torch.manual_seed(1)
    model = task_specific(net, layer, TASKS)
    found = gradients(model, model(x))
    without_checkpoints(monkeypatch)
    torch.manual_seed(1)
    model = task_specific(twin, layer, TASKS)
    for a, b in zip(found, gradients(model, model(x)), strict=True):
        torch.testing.assert_close(a, b)


def test_a_checkpoint_around_a_task_specific_layer_stops():
    model = task_specific(Net(together=True), "b", TASKS)
    with pytest.raises(AccordError, match="a checkpoint holds task-specific and shared"):
        model(torch.randn(5, 4))
    model = task_specific(Net(together=True), ["a.0", "b"], TASKS)  # nothing shared in it: only the task is unknown
    with pytest.raises(AccordError, match="no task is at hand"):
        gradients(model, model(torch.randn(5, 4)))


def test_autocast():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    plain, model, x = copy.deepcopy(net), task_specific(net, "2", TASKS), torch.randn(5, 4)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            out, expected = model(x), plain(x)
        assert out["q"].dtype == torch.bfloat16
        assert torch.equal(out["q"], expected)


class Double(torch.autograd.Function):
    """An operation that no mode sees."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Unseen(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.c(Double.apply(self.b(Double.apply(self.a(x)) + 1)))


def test_operations_that_are_not_seen_are_computed_again():
    torch.manual_seed(0)
    net, x = Unseen(), torch.randn(5, 4)
    whole = copy.deepcopy(net)
    model = task_specific(net, "b", TASKS)
    out, expected = model(x), whole(x)
    assert torch.equal(out["p"], expected)
    got = torch.autograd.grad(out["q"].sum(), [net.a.weight, net.c.weight])
    wanted = torch.autograd.grad(expected.sum(), [whole.a.weight, whole.c.weight])
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_within_another_mode():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model, x = task_specific(net, "1", TASKS), torch.randn(5, 4)
    with torch.device("cpu"):
        out = model(x)
    assert torch.equal(out["p"], out["q"])
    with torch.inference_mode():
        assert torch.equal(model(x)["p"], out["p"])


def test_what_was_switched_off_stays_off():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    net[0].requires_grad_(False)
    model = task_specific(net, "1", TASKS)
    model(torch.randn(5, 4))["p"].sum().backward()
    assert net[0].weight.grad is None
    assert model.copies()["1"].q.weight.grad is None
    assert model.copies()["1"].p.weight.grad is not None
