"""Displacements and the probe ahead: bit for bit, equal lengths, generators, pairs of Gramians."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from accord import AccordError, conflict, lookahead
from accord.ahead import probe_ahead
from accord.displacement import displaced, random_displacement
from accord.lookahead import momentum_displacement

from models import HardSharing
from oracles import step as oracle

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(1)).double()


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def values(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def started(model):
    """An SGD that has taken two steps, so that it has buffers."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        sum(model.losses(X).values()).backward()
        optimizer.step()
    return optimizer


# displaced


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.floats(1e-12, 1e12), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_there_and_back_bit_for_bit(seed, scale, dtype):
    """Adding and subtracting would not do it: rounding stays."""
    draw = seeded(seed)
    p = nn.Parameter(torch.randn(7, generator=draw).to(dtype))
    before, d = p.detach().clone(), (scale * torch.randn(7, generator=draw)).to(dtype)
    with displaced({p: d}):
        torch.testing.assert_close(p.detach(), before + d, rtol=0, atol=0)
    assert torch.equal(p, before)


def test_an_exception_and_a_step_inside_are_undone():
    model = HardSharing().double()
    optimizer, before = started(model), values(model)

    def stepped():
        with displaced({p: torch.ones_like(p) for p in model.parameters()}):
            optimizer.step()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stepped()
    assert equal(values(model), before)


def test_parameters_that_are_not_named_stay():
    first, second = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    with displaced({first: torch.ones(2)}):
        assert (first.tolist(), second.tolist()) == ([1, 1], [0, 0])


def test_another_shape_is_refused_before_anything_moves():
    first, second = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    block = displaced({first: torch.ones(2), second: torch.ones(3)})
    with pytest.raises(AccordError, match=r"has shape \(3,\), its parameter \(2,\)"):
        block.__enter__()
    assert first.tolist() == [0, 0]


def test_a_graph_that_crosses_the_border_is_noticed():
    model = HardSharing().double()
    losses = model.losses(X)
    with displaced({p: torch.ones_like(p) for p in model.parameters()}):
        pass
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        sum(losses.values()).backward()


def test_the_displacement_of_momentum_is_where_lookahead_stands():
    model = HardSharing().double()
    optimizer = started(model)
    displacement = momentum_displacement(optimizer)
    with lookahead(optimizer):
        ahead = values(model)
    with displaced(displacement):
        assert equal(values(model), ahead)
    before = values(model)
    assert all(
        torch.allclose(b + displacement[p], a) for p, a, b in zip(model.parameters(), ahead, before, strict=True)
    )


# random directions


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.floats(1e-6, 1e6))
def test_a_random_direction_has_the_same_length(seed, scale):
    draw = seeded(seed)
    like = {nn.Parameter(torch.zeros(n)): scale * torch.randn(n, generator=draw).double() for n in (1, 5, 40)}
    for per in ("total", "parameter"):
        found = random_displacement(like, draw, per=per)
        assert list(found) == list(like)
        lengths, own = ([float(d.norm()) for d in ds.values()] for ds in (found, like))
        assert math.hypot(*lengths) == pytest.approx(math.hypot(*own))
        if per == "parameter":
            assert lengths == pytest.approx(own)


def test_the_generator_alone_decides():
    like = {nn.Parameter(torch.zeros(6)): torch.ones(6)}
    torch.manual_seed(0)
    first = random_displacement(like, seeded(3))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    (again,), (other,) = (random_displacement(like, seeded(s)).values() for s in (3, 4))
    assert torch.equal(next(iter(first.values())), again)
    assert not torch.equal(again, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_direction_is_uniform():
    """No direction is preferred: the mean of 4000 unit vectors is near zero, their second moments near 1/n."""
    like, draw = {nn.Parameter(torch.zeros(4)): torch.tensor([1.0, 0, 0, 0])}, seeded(0)
    rows = torch.stack([next(iter(random_displacement(like, draw).values())) for _ in range(4000)])  # (4000, 4)
    assert rows.mean(0).abs().max() < 0.05
    torch.testing.assert_close(rows.T @ rows / 4000, torch.eye(4) / 4, rtol=0, atol=0.03)


def test_no_length_is_no_displacement():
    like = {nn.Parameter(torch.zeros(2)): torch.zeros(2)}
    assert next(iter(random_displacement(like, seeded(0)).values())).tolist() == [0, 0]
    assert random_displacement({}, seeded(0)) == {}


def test_another_word_is_refused():
    with pytest.raises(AccordError, match="per='totl' is not known. Did you mean 'total'"):
        random_displacement({}, seeded(0), per="totl")


# the probe


def test_both_points_against_the_oracle():
    model = HardSharing().double()
    optimizer = started(model)
    momentum = momentum_displacement(optimizer)
    control = random_displacement(momentum, seeded(0))
    found = probe_ahead(model, lambda: model.losses(X), {"ahead": momentum, "random": control})
    grams = {"here": found.here.gramian, **{name: step.gramian for name, step in found.there.items()}}
    for name, d in {"here": {}, "ahead": momentum, "random": control}.items():
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for p, q in zip(twin.parameters(), model.parameters(), strict=True):
                p += d.get(q, torch.zeros_like(q))
        torch.testing.assert_close(grams[name], oracle.gramian(twin, twin.losses(X)))
    expected = conflict.cosine(grams["ahead"]) - conflict.cosine(grams["here"])
    np.testing.assert_array_equal(found.change("ahead"), expected)
    assert abs(found.change("random")[0, 1]) > 0


class Noisy(nn.Module):
    """A trunk with dropout and running statistics."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))

    def forward(self, x):
        z = self.trunk(x)
        return {"a": z.square().mean(), "b": (z - 1).square().mean()}


def test_it_leaves_no_trace_and_draws_the_same_masks():
    torch.manual_seed(0)
    model, x = Noisy(), X.float()
    sum(model(x).values()).backward()
    grads = [p.grad.clone() for p in model.parameters()]
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    zero = {p: torch.zeros_like(p) for p in model.parameters()}
    found = probe_ahead(model, lambda: model(x), {"nowhere": zero})
    assert torch.equal(found.here.gramian, found.there["nowhere"].gramian)  # the masks are the same, bit for bit
    assert found.change("nowhere")[0, 1] == 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert equal(grads, [p.grad for p in model.parameters()])
    assert torch.equal(torch.get_rng_state(), state)


def test_an_exception_in_the_losses_restores_as_well():
    model = HardSharing().double()
    before, calls = values(model), []

    def compute():
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError
        return model.losses(X)

    with pytest.raises(ZeroDivisionError):
        probe_ahead(model, compute, {"ones": {p: torch.ones_like(p) for p in model.parameters()}})
    assert equal(values(model), before)


def test_blocks_and_shared_are_those_of_the_monitor():
    model = HardSharing().double()
    shared = [next(model.parameters())]
    found = probe_ahead(model, lambda: model.losses(X), {"x": {}}, shared=iter(shared), blocks="tensor")
    assert len(found.here.blocks) == len(found.there["x"].blocks) == 1


def test_nothing_to_look_at_is_refused():
    model = HardSharing()
    with pytest.raises(AccordError, match="has no displacement to look at"):
        probe_ahead(model, lambda: model.losses(X.float()), {})
