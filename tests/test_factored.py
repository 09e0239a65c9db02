"""Weight gradients as factors: the same numbers as the gradients that are never formed."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import accord
from accord import Balancer
from accord.engines import Stacked, factored
from accord.sharing import discover

from models import Hierarchy, Recurrent, Residual
from oracles import step as oracle


class Wide(nn.Module):
    """Few rows against the width, so that factors pay: linear layers on (N, D) and (N, L, D), with and without bias."""

    def __init__(self, k=6, norm=False):
        super().__init__()
        self.first = nn.Linear(20, 90)
        self.second = nn.Linear(90, 100, bias=False)
        self.norm = nn.LayerNorm(100) if norm else nn.Identity()
        self.heads = nn.ModuleList(nn.Linear(100, 2) for _ in range(k))

    def losses(self, x):
        z = self.norm(self.second(self.first(x).tanh()).tanh())
        return {f"t{i}": ((-1) ** i * head(z) - i).square().mean() for i, head in enumerate(self.heads)}


class Convolutional(nn.Module):
    """Convolutions of one and two dimensions with stride, padding and dilation; few positions, many channels."""

    def __init__(self, dimensions, k=6, groups=1):
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d)[dimensions - 1]
        self.dimensions = dimensions
        self.first = conv(4, 40, 3, padding=1)
        self.second = conv(40, 48, 3, stride=2, padding=2, dilation=2, groups=groups, bias=False)
        self.heads = nn.ModuleList(nn.Linear(48, 2) for _ in range(k))

    def losses(self, x):
        z = self.second(self.first(x).tanh()).tanh().flatten(2).mean(-1)
        return {f"t{i}": ((-1) ** i * head(z) - i).square().mean() for i, head in enumerate(self.heads)}


def batch(model, n=5):
    generator = torch.Generator().manual_seed(1)
    if isinstance(model, Convolutional):
        return torch.randn(2, 4, *(6,) * model.dimensions, generator=generator)
    return torch.randn(n, 20, generator=generator)


CASES = [
    (Wide, 1),
    (lambda: Wide(norm=True), 1),
    (lambda: Convolutional(1), 1),
    (lambda: Convolutional(2), 1),
]


@pytest.fixture(autouse=True)
def always_cheaper(monkeypatch):
    """So that small models show what large ones do; how the choice is made is tested by itself."""
    monkeypatch.setattr(factored, "TRIANGLE", 0.0)
    monkeypatch.setattr(factored, "MARGIN", 1.0)


@pytest.mark.parametrize(("make", "least"), CASES)
@pytest.mark.parametrize("granularity", ["total", "module", "tensor"])
def test_gramians_are_those_of_formed_gradients(make, least, granularity):
    model = make().double()
    losses = model.losses(batch(model).double())
    sharing = discover(model, losses)
    got = Stacked(model, sharing, list(losses.values()), granularity, retain_graph=True)
    assert len(got.layers) >= least
    want = Stacked(model, sharing, list(losses.values()), granularity, whole=True)
    assert want.layers == []
    torch.testing.assert_close(got.gramians, want.gramians, rtol=1e-10, atol=1e-13)
    vectors = [torch.randn_like(p) for p in sharing.shared]
    torch.testing.assert_close(got.inner(vectors), want.inner(vectors), rtol=1e-9, atol=1e-12)
    for a, b in zip(
        got.combine([0.3, -1.0, None, 2.0, 0.0, 1.0]), want.combine([0.3, -1.0, None, 2.0, 0.0, 1.0]), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("make", "least"), CASES)
@pytest.mark.parametrize("method", ["UPGrad()", "NashMTL()", "CAGrad()"])
def test_the_step_in_float32_is_the_same(make, least, method, monkeypatch):
    model = make()
    twin = copy.deepcopy(model)
    got = Balancer(model, method, engine="stacked").backward(model.losses(batch(model)))
    monkeypatch.setattr(factored, "layers", lambda sharing: [])
    want = Balancer(twin, method, engine="stacked").backward(twin.losses(batch(twin)))
    torch.testing.assert_close(got.weights, want.weights, rtol=1e-5, atol=1e-6)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6)


def test_gradients_that_cancel_over_the_batch_keep_their_digits():
    """The inner products of per-sample gradients would lose them: they square the rounding errors."""
    x = torch.randn(6, 200, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(200, 150, bias=False)
    shift = 1e-4 * torch.randn(6, 150, generator=torch.Generator().manual_seed(1))
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])[:, None]
    x = x[:1].expand(6, -1) + 1e-4 * x  # nearly equal inputs, opposite cotangents: gradients 1e-4 of their terms

    def losses(model, x, dtype):
        y = model(x)
        return {f"t{i}": (y * (signs + (i + 1) * shift).to(dtype)).sum() for i in range(8)}

    grams = []
    for whole in (False, True):
        own = losses(model, x, torch.float32)
        engine = Stacked(model, discover(model, own), list(own.values()), whole=whole)
        assert bool(engine.layers) != whole
        grams.append(engine.gramians[0])
    wide = copy.deepcopy(model).double()
    exact = Stacked(
        wide, discover(wide, own := losses(wide, x.double(), torch.float64)), list(own.values()), whole=True
    )
    errors = [float((g - exact.gramians[0]).norm() / exact.gramians[0].norm()) for g in grams]
    assert errors[0] <= max(4 * errors[1], 1e-5)


def reused(model, x):
    return model.second(model.first(x).tanh()) + model.second(2 * model.first(x).tanh())


def transposed(model, x):
    return functional.linear(model.first(x).tanh(), model.second.weight) @ model.second.weight


@pytest.mark.parametrize("trunk", [reused, transposed])
def test_a_weight_that_is_used_twice_is_left_alone(trunk):
    model = Wide().double()
    x = batch(model).double()
    z = trunk(model, x)
    losses = {f"t{i}": ((-1) ** i * z[:, i]).square().mean() + z[:, i].mean() for i in range(6)}
    engine = Stacked(model, discover(model, losses), list(losses.values()), retain_graph=True)
    assert all(layer.weight is not model.second.weight for layer in engine.layers)
    torch.testing.assert_close(engine.gramians.sum(0), oracle.gramian(model, losses), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", [Hierarchy, Residual, Recurrent, lambda: Convolutional(2, groups=2)])
def test_other_models_get_the_same_gramian(make):
    """Tied and partly shared weights, skips, recurrent and grouped layers."""
    model = make().double()
    x = batch(model).double() if isinstance(model, Convolutional) else torch.randn(8, 5).double()
    losses = model.losses(x)
    engine = Stacked(model, discover(model, losses), list(losses.values()), retain_graph=True)
    torch.testing.assert_close(engine.gramians.sum(0), oracle.gramian(model, losses), rtol=1e-9, atol=1e-12)


def test_checkpoints_are_not_run_again():
    model, runs = Wide(), []

    def trunk(x):
        runs.append(1)
        return model.second(model.first(x).tanh()).tanh()

    z = checkpoint(trunk, batch(model), use_reentrant=False)
    losses = {f"t{i}": head(z).square().mean() for i, head in enumerate(model.heads)}
    found = factored.layers(discover(model, losses))
    assert found == []
    assert len(runs) == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 6), st.integers(2, 5))
def test_factors_of_any_shape(t, inside, outside, k):
    """(T, d_in) either way round; the triangle is then a trapezium."""
    generator = torch.Generator().manual_seed(t + 100 * inside)
    x = torch.randn(t, inside, generator=generator, dtype=torch.float64)
    cotangents = torch.randn(k, t, outside, generator=generator, dtype=torch.float64)
    layer = factored.Factored(0, torch.zeros(outside, inside), None, x, list(cotangents))
    formed = torch.einsum("kto,ti->koi", cotangents, x).flatten(1)
    rows = torch.stack([row.flatten() for row in layer.rows()])
    torch.testing.assert_close(rows @ rows.T, formed @ formed.T, rtol=1e-9, atol=1e-12)


def test_the_form_with_fewer_operations_is_taken(monkeypatch):
    monkeypatch.undo()
    assert factored._cheaper(9, 128, 512, 512)
    assert not factored._cheaper(2, 128, 512, 512)  # the factorisation does not pay for two tasks
    assert not factored._cheaper(9, 512, 512, 512)
    assert not factored._cheaper(40, 4096, 576, 64)


def test_whole_gradients_are_formed_for_who_needs_them():
    model = Wide()
    for method in ("GradDrop()", "ExcessMTL()"):
        step = Balancer(model, method).backward(model.losses(batch(model)))
        assert all(p.grad is not None for p in model.parameters())
        assert step.gramians is not None


def test_a_monitor_gets_the_change_from_factors():
    model = Wide()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    monitor = accord.Monitor(model, every=1, optimizer=optimizer)
    balancer = Balancer(model, "UPGrad()")
    monitor.attach(balancer)
    step = balancer.backward(model.losses(batch(model)))
    optimizer.step()
    torch.testing.assert_close(step.change, -1e-3 * step.descent, rtol=1e-3, atol=1e-9)
