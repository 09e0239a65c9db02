"""Trial steps and real ones: against a deep copy that is trained for good, and without a trace."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import accord
from accord import conflict
from accord.effect import one_step, realised
from accord.effect.trial import trial
from accord.errors import AccordError

OPTIMIZERS: dict[str, Callable] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw, lr in a tensor": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01)),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True),
}


class Net(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(dropout))
        self.a, self.b = nn.Linear(6, 1), nn.Linear(6, 1)

    def forward(self, x):
        z = self.body(x)
        return {"a": (self.a(z) - 1).square().mean() + 0.1, "b": (self.b(z) + x[:, :1]).square().mean() + 0.1}


def made(name="adam", dropout=0.0):
    torch.manual_seed(0)
    model = Net(dropout).double()
    optimizer = OPTIMIZERS[name](model.parameters())
    x, y = torch.randn(8, 3).double(), torch.randn(8, 3).double()
    for _ in range(3):
        sum(model(x).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer, x, y


def everything(model, optimizer):
    """Whatever a look could have disturbed."""
    state = optimizer.state_dict()
    return copy.deepcopy((
        list(model.state_dict().values()), [p.grad for p in model.parameters()], state, torch.get_rng_state(),
        [m.training for m in model.modules()],
    ))  # fmt: skip


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_of_a_copy_that_is_made_for_good(name, heads):
    model, optimizer, x, y = made(name)
    found = one_step(model, optimizer, lambda: model(x), lambda: model(y), heads=heads)
    for i, task in enumerate(found.tasks):
        twin, moves = copy.deepcopy((model, optimizer))
        with torch.no_grad():
            expected_before = [float(v) for v in copy.deepcopy(twin)(y).values()]
        buffers = copy.deepcopy(twin.body[1].state_dict())
        twin(x)[task].backward()
        own = copy.deepcopy((twin.a.state_dict(), twin.b.state_dict()))
        moves.step()
        if not heads:
            twin.a.load_state_dict(own[0])
            twin.b.load_state_dict(own[1])
        for key in ("running_mean", "running_var"):
            getattr(twin.body[1], key).copy_(buffers[key])
        with torch.no_grad():
            after = [float(v) for v in twin(y).values()]
        np.testing.assert_allclose(found.after[i], after, rtol=1e-12)
        np.testing.assert_allclose(found.before, expected_before, rtol=1e-12)
    np.testing.assert_allclose(found.relative, 1 - found.after / found.before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_trace(name):
    model, optimizer, x, y = made(name, dropout=0.5)
    model.body[3].eval()
    sum(model(x).values()).backward()  # .grad of the user's own
    grads = [p.grad for p in model.parameters()]
    before, own = everything(model, optimizer), [p.data_ptr() for p in model.parameters()]
    one_step(model, optimizer, lambda: model(x), lambda: model(y))
    with realised(model, same=lambda: model(x)):
        pass
    assert equal(everything(model, optimizer), before)
    assert [p.data_ptr() for p in model.parameters()] == own
    assert all(p.grad is g for p, g in zip(model.parameters(), grads, strict=True))
    assert not equal(everything(*made("sgd")[:2]), before)  # the comparison can fail


def test_training_goes_on_as_if_nobody_had_looked():
    def trained(look):
        model, optimizer, x, y = made("adam", dropout=0.3)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        for _ in range(4):
            sum(model(x).values()).backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            if look:
                one_step(model, optimizer, lambda: model(x), lambda: model(y))
        return everything(model, optimizer)

    assert equal(trained(True), trained(False))


def _step_and_fail(model, optimizer, x):
    sum(model(x).values()).backward()
    optimizer.step()
    accord.Balancer(model, "Sum()").backward(3)


def test_a_failed_look_puts_everything_back():
    model, optimizer, x, _ = made()
    before = everything(model, optimizer)
    with pytest.raises(AccordError, match="expected a dict"), trial(model, optimizer):
        _step_and_fail(model, optimizer, x)
    after = everything(model, optimizer)
    assert equal(before[1:3], after[1:3])
    assert all(torch.equal(a, b) for a, b in zip(before[0][:2], after[0][:2], strict=True))


def test_dropout_masks_are_the_same_in_all_looks():
    model, optimizer, x, _ = made("sgd", dropout=0.5)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    found = one_step(model, optimizer, lambda: model(x))
    assert (found.change == 0).all()
    assert len({float(model(x)["a"].detach()) for _ in range(5)}) > 1


def test_small_steps_of_sgd_agree_with_the_gramian():
    """To first order a step of i changes loss j by ``-γ g_i·g_j``."""
    model, _, x, _ = made()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    step = accord.Monitor(model, every=1).observe(model(x))
    found = one_step(model, optimizer, lambda: model(x))
    np.testing.assert_allclose(found.change / -1e-6, step.gramian.numpy(), rtol=1e-3, atol=1e-4)


def test_the_real_step_agrees_with_first_order_progress():
    model, _, x, _ = made()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    monitor = accord.Monitor(model, every=1, optimizer=optimizer)
    balancer = accord.Balancer(model, "PCGrad()", shared=["body", "a", "b"])
    monitor.attach(balancer)
    with realised(model, same=lambda: model(x), other=lambda: model(x + 1)) as seen:
        balancer.backward(model(x))
        optimizer.step()
    change = monitor.record().change.sum(1)[0]
    np.testing.assert_allclose(seen.change("same"), change, rtol=1e-3)
    assert seen.after.keys() == {"same", "other"}
    assert (seen.harmed("same") == (change > 0)).all()


def test_losses_that_are_not_positive_have_no_ratio():
    effect = accord.effect.Effect(("a", "b"), np.array([-1.0, 2.0]), np.ones((2, 2)))
    assert np.isnan(effect.relative[:, 0]).all()
    assert effect.change.tolist() == [[2, -1], [2, -1]]


def test_mistakes():
    model, optimizer, x, _ = made()
    with pytest.raises(AccordError, match="no batch"), realised(model):
        pass
    with pytest.raises(AccordError, match="in this order"):
        one_step(model, optimizer, lambda: model(x), lambda: {"a": model(x)["a"]})
    with pytest.raises(AccordError, match="LBFGS"):
        one_step(model, torch.optim.LBFGS(model.parameters()), lambda: model(x))
    with pytest.raises(AccordError, match="share no parameter"):
        one_step(model, optimizer, lambda: {"a": model.a.weight.sum(), "b": model.b.weight.sum()})
    with pytest.raises(AccordError, match="there are"):
        accord.effect.Realised().change("x")
    with realised(model, one=lambda: model(x)) as seen, pytest.raises(AccordError, match="no losses after"):
        seen.change("one")


def test_conflict_and_effect_have_the_same_sign_for_far_apart_targets():
    w = nn.Linear(1, 1, bias=False)
    losses = lambda: {"up": (w.weight - 1).square().sum(), "down": (w.weight + 1).square().sum()}  # noqa: E731
    nn.init.zeros_(w.weight)
    effect = one_step(w, torch.optim.SGD(w.parameters(), lr=0.1), losses)
    gramian = accord.Monitor(w, every=1).observe(losses()).gramian
    assert conflict.incidence(gramian) == 1
    assert (np.sign(effect.relative) == np.sign(gramian.numpy())).all()
