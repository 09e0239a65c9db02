"""lookahead: there and back bit for bit, Nesterov's method against torch's, and what cannot be asked of it."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from accord import AccordError, Balancer, ConflictAwareLR, Monitor, lookahead

from models import HardSharing
from oracles import step as oracle

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(1)).double()


def started(model, **arguments):
    """An SGD that has taken two steps, so that it has buffers."""
    optimizer = torch.optim.SGD(model.parameters(), **({"lr": 0.1, "momentum": 0.9} | arguments))
    for _ in range(2):
        optimizer.zero_grad()
        sum(model.losses(X).values()).backward()
        optimizer.step()
    return optimizer


def values(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


# There and back


def test_inside_the_parameters_are_where_momentum_carries_them():
    """Where a heavy-ball step with a zero gradient would go."""
    model = HardSharing().double()
    optimizer = started(model)
    twin = copy.deepcopy(model)
    carried = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    carried.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # buffers of its own
    for p in twin.parameters():
        p.grad = torch.zeros_like(p)
    carried.step()
    before = values(model)
    with lookahead(optimizer):
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p, q)
        assert not equal(values(model), before)
    assert equal(values(model), before)


def test_an_exception_restores_as_well():
    model = HardSharing().double()
    optimizer = started(model)
    before = values(model)
    with pytest.raises(ZeroDivisionError), lookahead(optimizer):
        raise ZeroDivisionError
    assert equal(values(model), before)
    optimizer.step()  # the guard is gone


def test_what_has_no_velocity_stays():
    moving, plain, frozen, fresh = (nn.Parameter(torch.ones(2)) for _ in range(4))
    groups = [{"params": [moving, frozen, fresh]}, {"params": [plain], "momentum": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.5, momentum=0.5)
    for p in (moving, plain, frozen):
        p.grad = torch.ones(2)
    optimizer.step()
    frozen.requires_grad_(False)
    with lookahead(optimizer):
        found = [p[0].item() for p in (moving, plain, frozen, fresh)]
    assert found == [0.5 - 0.5 * 0.5, 0.5, 0.5, 1.0]
    assert fresh not in optimizer.state


def test_each_group_and_the_coming_rate_count():
    """A scheduler that has stepped already: the rate of the step to come, as a number or a tensor."""
    first, second = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    rate = torch.tensor(0.5, dtype=torch.float64)
    optimizer = torch.optim.SGD([{"params": [first], "lr": rate}, {"params": [second], "momentum": 0.25}], 1.0, 0.5)
    first.grad, second.grad = torch.ones(2, 1, dtype=torch.float64).unbind()
    optimizer.step()  # buffers are 1
    optimizer.param_groups[0]["lr"].fill_(0.125)
    with lookahead(optimizer):
        assert (first.item(), second.item()) == (-0.5 - 0.125 * 0.5, -1.0 - 1.0 * 0.25)


# Nesterov's method


def run(method, matrix, start, steps, penalty=0.0, **arguments):
    """The points at which gradients of ``x·Ax/2 - 1·x + penalty |x|²/2`` are taken."""
    x = nn.Parameter(start.clone())
    optimizer = torch.optim.SGD([x], nesterov=method == "nesterov", **arguments)
    points = []
    for _ in range(steps):
        optimizer.zero_grad()
        if method == "lookahead":
            with lookahead(optimizer):
                points.append(x.detach().clone())
                (x @ matrix @ x / 2 - x.sum() + penalty * x @ x / 2).backward()
        else:
            points.append(x.detach().clone())
            (x @ matrix @ x / 2 - x.sum() + penalty * x @ x / 2).backward()
        optimizer.step()
    return torch.stack(points)  # (T, P)


def problem(seed):
    draw = torch.Generator().manual_seed(seed)
    root, start = torch.randn(3, 3, generator=draw).double(), torch.randn(3, generator=draw).double()
    return root @ root.T / 9, start


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.floats(1e-3, 0.3), st.floats(0.05, 0.95), st.booleans())
def test_heavy_ball_with_lookahead_is_nesterovs_method(seed, lr, momentum, maximize):
    """theta_t - lr mu b_t equals the iterates of SGD(nesterov=True) from the same start, the first step included."""
    matrix, start = problem(seed)
    matrix = -matrix if maximize else matrix
    arguments = {"lr": lr, "momentum": momentum, "maximize": maximize}
    ours, theirs = (run(method, matrix, start, 20, **arguments) for method in ("lookahead", "nesterov"))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10 * float(theirs.abs().max()))


def test_weight_decay_of_the_optimiser_is_taken_at_theta():
    """b <- mu b + grad(theta - lr mu b) + wd theta; torch's nesterov has it ahead, as a penalty has."""
    matrix, start = problem(0)
    lr, mu, decay = 0.1, 0.8, 0.5
    theta, b, expected = start, torch.zeros(3).double(), []
    for _ in range(10):
        expected.append(theta - lr * mu * b)
        b = mu * b + (matrix @ expected[-1] - 1) + decay * theta
        theta = theta - lr * b
    ours = run("lookahead", matrix, start, 10, lr=lr, momentum=mu, weight_decay=decay)
    torch.testing.assert_close(ours, torch.stack(expected))
    theirs = run("nesterov", matrix, start, 10, lr=lr, momentum=mu, weight_decay=decay)
    assert not torch.allclose(ours, theirs, rtol=1e-3)
    torch.testing.assert_close(run("lookahead", matrix, start, 10, penalty=decay, lr=lr, momentum=mu), theirs)


# With the rest of Accord


@pytest.mark.parametrize("method", ["Sum()", "UPGrad()", "GradDrop()"])
def test_a_balancer_inside_sees_the_displaced_model(method):
    model = HardSharing().double()
    optimizer = started(model)
    optimizer.zero_grad()
    displaced = copy.deepcopy(model)
    with torch.no_grad():
        for p, q in zip(displaced.parameters(), model.parameters(), strict=True):
            p -= 0.1 * 0.9 * optimizer.state[q]["momentum_buffer"]
    before = values(model)
    with lookahead(optimizer):
        step = Balancer(model, method).backward(model.losses(X))
    Balancer(displaced, method).backward(displaced.losses(X))
    torch.testing.assert_close([p.grad for p in model.parameters()], [p.grad for p in displaced.parameters()])
    if step.gramian is not None:
        torch.testing.assert_close(step.gramian, oracle.gramian(displaced, displaced.losses(X)))
    assert equal(values(model), before)
    optimizer.step()
    assert not equal(values(model), before)


def test_a_monitor_looks_at_both_points():
    model = HardSharing().double()
    optimizer = started(model)
    monitor = Monitor(model, every=1)
    here = monitor.observe(model.losses(X))
    with lookahead(optimizer):
        ahead = monitor.observe(model.losses(X))
        expected = oracle.gramian(model, model.losses(X))
    assert not torch.allclose(here.gramian, ahead.gramian)
    torch.testing.assert_close(ahead.gramian, expected)


def test_a_scaled_rate_is_not_foreseen():
    """ConflictAwareLR scales inside the step; the block reads the scheduler's rate."""
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([p], 0.5, 0.5)
    rates = ConflictAwareLR(optimizer)
    p.grad = torch.ones_like(p)
    optimizer.step()
    with lookahead(optimizer):
        assert p.item() == -0.75
    rates.close()


# What cannot be


def test_a_graph_that_outlives_the_block_is_noticed():
    model = HardSharing().double()
    optimizer = started(model)
    with lookahead(optimizer):
        losses = model.losses(X)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        sum(losses.values()).backward()
    losses = model.losses(X)
    with lookahead(optimizer), pytest.raises(RuntimeError, match="modified by an inplace operation"):
        Balancer(model, "UPGrad()").backward(losses)
    losses = model.losses(X)
    with lookahead(optimizer):
        pass
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        sum(losses.values()).backward()


def test_only_a_recomputed_forward_pass_goes_unnoticed():
    """A limit that the page states: a checkpoint computes its part anew, with the parameters of that moment."""
    model = HardSharing().double()
    optimizer = started(model)

    def gradient(inside):
        with lookahead(optimizer):
            loss = checkpoint(model.trunk, X, use_reentrant=False).square().mean()
            if inside:
                return torch.autograd.grad(loss, model.trunk[0].weight)[0]
        return torch.autograd.grad(loss, model.trunk[0].weight)[0]

    assert not torch.allclose(gradient(inside=True), gradient(inside=False))


def test_a_step_inside_is_refused():
    model = HardSharing().double()
    optimizer = started(model)
    before = values(model)
    with pytest.raises(AccordError, match="inside lookahead would be undone"), lookahead(optimizer):
        optimizer.step()
    assert equal(values(model), before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: torch.optim.Adam(p), "needs a torch.optim.SGD, .* found Adam; for Adam there is torch.optim.NAdam"),
        (lambda p: torch.optim.RMSprop(p, momentum=0.9), "found RMSprop"),
        (lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True), "already are the look-ahead point; set nesterov=False"),
    ],
)
def test_other_optimisers_are_refused(make, message):
    with pytest.raises(AccordError, match=message), lookahead(make([nn.Parameter(torch.ones(1))])):
        pass
